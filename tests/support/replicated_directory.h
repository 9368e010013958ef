// A directory mounted with a replica by the real program, for tests that go the whole way: mount,
// sync, restore, unmount or crash, mount again. Whatever happens, nothing is left behind.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/mounted_directory.h"

namespace walfs::test {

// file:// always; the S3 service of scripts/s3-server with `s3`.
class ReplicatedDirectory {
 public:
  enum class Where { kOverItself, kBeside };

  explicit ReplicatedDirectory(std::string url = {}, Where where = Where::kBeside,
                               Seconds limit = Seconds(300))
      : url_(std::move(url)) {
    source_ = temporary_.path() + "/source";
    mountpoint_ = where == Where::kOverItself ? source_ : temporary_.path() + "/mount";
    if (url_.empty()) url_ = "file://" + temporary_.path() + "/replica";
    std::filesystem::create_directory(source_);
    std::filesystem::create_directory(temporary_.path() + "/restored");
    if (mountpoint_ != source_) std::filesystem::create_directory(mountpoint_);
    watchdog_ = std::thread([this, limit] { watch(limit); });
  }
  ~ReplicatedDirectory() {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    wake_.notify_all();
    watchdog_.join();
    tear_down();
  }
  ReplicatedDirectory(const ReplicatedDirectory&) = delete;
  ReplicatedDirectory& operator=(const ReplicatedDirectory&) = delete;

  Output try_mount(const std::vector<std::string>& options = {}) {
    std::vector<std::string> words = {walfs_binary(), "mount", source_,      mountpoint_,
                                      "--replica",    url_,    "--log-file", log_file()};
    words.insert(words.end(), options.begin(), options.end());
    Output output = run_program(words, Seconds(60));
    if (output.status == 0) note_processes();
    return output;
  }
  void mount(const std::vector<std::string>& options = {}) {
    const Output output = try_mount(options);
    ASSERT_EQ(output.status, 0) << output.text << log_tail();
  }
  void unmount() {
    const Output output =
        run_program({walfs_binary(), "unmount", mountpoint_, "--timeout", "60s"}, Seconds(90));
    ASSERT_EQ(output.status, 0) << output.text << log_tail();
    ASSERT_FALSE(mount_at(mountpoint_));
  }
  // The position, or "" after a failure.
  std::string sync() {
    Output output = run_program({walfs_binary(), "sync", mountpoint_}, Seconds(60));
    EXPECT_EQ(output.status, 0) << output.text << log_tail();
    while (!output.text.empty() && output.text.back() == '\n') output.text.pop_back();
    return output.status == 0 ? output.text : "";
  }
  // Asks until some server answers: the one that was asked may just be handing over.
  nlohmann::json status() const {
    const auto answer = control_request(mountpoint_, {{"command", "status"}}, 20000);
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    return answer.ok() ? *answer : nlohmann::json::object();
  }
  // Waits for a server, kills it, and returns when another one has been started.
  void kill_server() {
    pid_t killed = 0;
    ASSERT_TRUE(wait_until([&] { return (killed = server()) > 0; })) << log_tail();
    kill(killed, SIGKILL);
    ASSERT_TRUE(wait_until([&] {
      const pid_t now = server();
      return now > 0 && now != killed;
    })) << log_tail();
  }
  // All processes at once, as if the machine lost them; what is left of the mount is detached. The
  // keeper is stopped before, so that it starts no server that nobody looks for.
  void crash() {
    if (!pids_.empty()) kill(pids_.front(), SIGSTOP);
    if (const pid_t now = server(); now > 0) pids_.push_back(now);
    for (const int pid : pids_) kill(pid, SIGKILL);
    EXPECT_TRUE(wait_until([&] {
      return std::all_of(pids_.begin(), pids_.end(), [](int pid) { return has_ended(pid); });
    }));
    pids_.clear();
    detach();
  }
  // Restores into a new directory and returns it; "" after a failure.
  std::string restore(const std::vector<std::string>& options = {}) {
    const std::string target = temporary_.path() + "/restored/" + std::to_string(++restored_);
    std::vector<std::string> words = {walfs_binary(), "restore", url_, target};
    words.insert(words.end(), options.begin(), options.end());
    const Output output = run_program(words, Seconds(120));
    EXPECT_EQ(output.status, 0) << output.text << log_tail();
    return output.status == 0 ? target : "";
  }

  const std::string& source() const { return source_; }
  const std::string& path() const { return mountpoint_; }
  std::string path(const std::string& name) const { return mountpoint_ + "/" + name; }
  const std::string& url() const { return url_; }
  // Beside the source, for whatever a test needs.
  std::string beside(const std::string& name) const { return temporary_.path() + "/" + name; }

  std::string log_file() const { return temporary_.path() + "/walfs.log"; }
  std::string log_tail() const {
    std::ifstream log(log_file());
    std::vector<std::string> lines;
    for (std::string line; std::getline(log, line);) lines.push_back(line);
    std::string text = "\nlast lines of the log:\n";
    for (size_t i = lines.size() > 40 ? lines.size() - 40 : 0; i < lines.size(); ++i)
      text += "  " + lines[i] + "\n";
    return text;
  }

 private:
  void note_processes() {
    const auto entry = mount_at(mountpoint_);
    ASSERT_TRUE(entry);
    connection_ = entry->device_minor;
    const auto answer = control_request(mountpoint_, {{"command", "status"}}, 10000);
    ASSERT_TRUE(answer) << answer.error().message;
    pids_.clear();
    for (const char* who : {"keeper_pid", "server_pid", "flusher_pid"})
      if (const int pid = answer->value(who, 0); pid > 0) pids_.push_back(pid);
    ASSERT_EQ(pids_.size(), 3u) << answer->dump();
  }

  // The process that serves now; 0 while one is replaced.
  pid_t server() const {
    if (pids_.empty()) return 0;
    const std::string keeper = "/proc/" + std::to_string(pids_.front());
    std::ifstream children(keeper + "/task/" + std::to_string(pids_.front()) + "/children");
    for (pid_t pid = 0; children >> pid;) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
      std::string line;
      std::getline(file, line);
      if (line.find("serve-internal") != std::string::npos) return pid;
    }
    return 0;
  }

  void detach() {
    while (mount_at(mountpoint_))
      if (umount2(mountpoint_.c_str(), MNT_DETACH) != 0) break;
  }

  void abort_connection() {
    const char* fusectl = "/sys/fs/fuse/connections";
    if (std::filesystem::is_empty(fusectl)) ::mount("none", fusectl, "fusectl", 0, nullptr);
    std::ofstream(std::string(fusectl) + "/" + std::to_string(connection_) + "/abort") << 1;
  }

  void tear_down() {
    if (!mount_at(mountpoint_)) return;
    run_program({walfs_binary(), "unmount", mountpoint_, "--force", "--timeout", "5s"},
                Seconds(20));
    if (!mount_at(mountpoint_)) return;
    abort_connection();
    for (const int pid : pids_) kill(pid, SIGKILL);
    detach();
  }

  void watch(Seconds limit) {
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, limit, [this] { return ended_; })) return;
    ADD_FAILURE() << "the test hangs; aborting its FUSE connection";
    abort_connection();
  }

  TemporaryDirectory temporary_;
  std::string url_, source_, mountpoint_;
  std::vector<int> pids_;
  unsigned connection_ = 0;
  int restored_ = 0;
  std::thread watchdog_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ended_ = false;
};

}  // namespace walfs::test
