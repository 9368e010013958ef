// A directory mounted by the real program, that is always unmounted again: in the last resort by
// aborting its FUSE connection, so that no test can leave a process behind that cannot be killed.
#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "fs/mount/control.h"
#include "fs/mount/mountinfo.h"
#include "tests/support/child_process.h"

namespace walfs::test {

inline std::string walfs_binary() {
  const char* path = std::getenv("WALFS_BINARY");
  return path != nullptr ? path : WALFS_BINARY;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* base = std::getenv("WALFS_TEST_DIRECTORY");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/walfs-test-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
    chmod(path_.c_str(), 0755);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class MountedDirectory {
 public:
  explicit MountedDirectory(std::vector<std::string> options = {}, Seconds limit = Seconds(120),
                            std::string source = {}, std::string mountpoint = {},
                            std::string binary = walfs_binary())
      : binary_(std::move(binary)),
        options_(std::move(options)),
        source_(std::move(source)),
        mountpoint_(std::move(mountpoint)) {
    if (source_.empty()) {
      source_ = temporary_.path() + "/source";
      std::filesystem::create_directory(source_);
    }
    if (mountpoint_.empty()) {
      mountpoint_ = temporary_.path() + "/mount";
      std::filesystem::create_directory(mountpoint_);
    }
    mount();
    watchdog_ = std::thread([this, limit] { watch(limit); });
  }

  ~MountedDirectory() {
    unmount();
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    wake_.notify_all();
    watchdog_.join();
  }
  MountedDirectory(const MountedDirectory&) = delete;
  MountedDirectory& operator=(const MountedDirectory&) = delete;

  void mount() {
    std::vector<std::string> words = {binary_,     "mount",
                                      source_,     mountpoint_,
                                      "--replica", "file://" + temporary_.path() + "/replica"};
    words.insert(words.end(), options_.begin(), options_.end());
    Output output = run_program(words);
    ASSERT_EQ(output.status, 0) << output.text;
    auto entry = mount_at(mountpoint_);
    ASSERT_TRUE(entry);
    connection_ = entry->device_minor;
    auto answer = control_request(mountpoint_, {{"command", "status"}}, 10000);
    ASSERT_TRUE(answer) << answer.error().message;
    status_ = *answer;
  }

  // Unmounts in the ordinary way; by force if that fails.
  void unmount() {
    if (!mount_at(mountpoint_)) return;
    Output output = run_program({walfs_binary(), "unmount", mountpoint_}, Seconds(40));
    EXPECT_EQ(output.status, 0) << output.text;
    if (!mount_at(mountpoint_)) return;
    abort_connection();
    umount2(mountpoint_.c_str(), MNT_DETACH);
    for (const char* who : {"keeper_pid", "server_pid", "flusher_pid"})
      if (int found = pid(who); found > 0) kill(found, SIGKILL);
  }

  const std::string& source() const { return source_; }
  const std::string& path() const { return mountpoint_; }
  std::string path(const std::string& name) const { return mountpoint_ + "/" + name; }
  int pid(const char* who) const { return status_.value(who, 0); }

 private:
  void abort_connection() const {
    const char* fusectl = "/sys/fs/fuse/connections";
    if (std::filesystem::is_empty(fusectl)) ::mount("none", fusectl, "fusectl", 0, nullptr);
    std::ofstream(std::string(fusectl) + "/" + std::to_string(connection_) + "/abort") << 1;
  }

  void watch(Seconds limit) {
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, limit, [this] { return ended_; })) return;
    ADD_FAILURE() << "the test hangs; aborting its FUSE connection";
    abort_connection();
  }

  TemporaryDirectory temporary_;
  const std::string binary_;
  const std::vector<std::string> options_;
  std::string source_;
  std::string mountpoint_;
  nlohmann::json status_;
  unsigned connection_ = 0;
  std::thread watchdog_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ended_ = false;
};

// True once the process is gone or a zombie that nobody has reaped.
inline bool has_ended(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return true;
  size_t end = line.rfind(')');
  return end != std::string::npos && end + 2 < line.size() && line[end + 2] == 'Z';
}

inline bool wait_until(const std::function<bool()>& condition, Seconds limit = Seconds(20)) {
  auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace walfs::test
