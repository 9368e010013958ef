#include "fs/mount/flusher.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fs/mount/channels.h"
#include "fs/mount/keeper.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/options.h"
#include "fs/mount/process.h"

namespace walfs {
namespace {

// Declared here: <sys/mount.h>, which declares them in glibc 2.36, clashes with <linux/mount.h>.
int clone_mount(const char* path) {
  return static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
}

// The shared state begins with it (shared_state.h).
Result<const std::atomic<uint64_t>*> map_order(int state_fd) {
  void* memory = mmap(nullptr, sizeof(uint64_t), PROT_READ, MAP_SHARED, state_fd, 0);
  if (memory == MAP_FAILED) return error_from_errno("cannot map the shared state", errno);
  return static_cast<const std::atomic<uint64_t>*>(memory);
}

class FlusherProcess {
 public:
  explicit FlusherProcess(MountOptions options) : options_(std::move(options)) {}
  int run();

 private:
  bool wait_for_mount();
  bool still_mounted() const;
  bool poll_once(Flusher& flusher, int mounts_fd, int64_t timeout_ms);
  void take_away_orphan() const;

  const MountOptions options_;
  int mount_id_ = 0;
  bool keeper_gone_ = false;
  bool server_gone_ = false;
  bool tick_now_ = false;
};

bool FlusherProcess::wait_for_mount() {
  auto message = receive_message(kFlusherKeeper, -1);
  if (!message) return false;
  mount_id_ = message->value("mount_id", 0);
  return true;
}

bool FlusherProcess::still_mounted() const {
  auto mounts = read_mountinfo();
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const MountEntry& entry) { return entry.mount_id == mount_id_; });
}

// The last of the three processes takes the dead mount away.
void FlusherProcess::take_away_orphan() const {
  auto top = mount_at(options_.mountpoint);
  if (top && top->mount_id == mount_id_) run_unmount_helper(options_.mountpoint, kDetach);
}

// False: time to end.
bool FlusherProcess::poll_once(Flusher& flusher, int mounts_fd, int64_t timeout_ms) {
  pollfd waiting[3] = {{keeper_gone_ ? -1 : kFlusherKeeper, POLLIN, 0},
                       {kFlusherServer, POLLIN, 0},
                       {mounts_fd, POLLPRI, 0}};
  if (poll(waiting, 3, static_cast<int>(timeout_ms)) < 0) return errno == EINTR;
  if (waiting[0].revents != 0) {
    auto message = receive_message(kFlusherKeeper, 0);
    if (message && message->value("do", "") == "stop") return false;
    if (!message) keeper_gone_ = true;
  }
  if (waiting[1].revents != 0) {
    auto message = receive_message(kFlusherServer, 0);
    if (!message) {
      server_gone_ = true;
      return false;
    }
    tick_now_ = flusher.on_server_message(*message) || tick_now_;
  }
  return waiting[2].revents == 0 || still_mounted();
}

int FlusherProcess::run() {
  if (!wait_for_mount()) return 0;
  auto root = open_mount_root(options_.mountpoint);
  if (!root) {
    send_message(kFlusherKeeper, {{"event", "failed"}, {"message", root.error().message}});
    return 1;
  }
  FileDescriptor mounts(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  send_message(kFlusherKeeper, {{"event", "ready"}});
  auto order = map_order(kFlusherState);
  if (!order) return 1;
  Flusher flusher(std::move(*root), **order);
  send_message(kFlusherServer, {{"hello", true}});
  int64_t next = now_ms() + options_.flush_interval_ms;
  // The mount may have gone before its changes were watched for.
  bool going = still_mounted();
  while (going) {
    going = poll_once(flusher, mounts.get(), std::max<int64_t>(0, next - now_ms()));
    if (going && (tick_now_ || now_ms() >= next)) {
      tick_now_ = false;
      flusher.tick(kFlusherServer);
      next = now_ms() + options_.flush_interval_ms;
    }
  }
  if (!server_gone_) flusher.tick(kFlusherServer);
  if (server_gone_ && keeper_gone_) take_away_orphan();
  return 0;
}

}  // namespace

void Flusher::tick(int server_channel) {
  // A server that is behind gets no instant now: waiting for it in send(2) would keep the mount
  // from ending. Heads and tokens stay for the next tick; the pages are written back all the same.
  pollfd server = {server_channel, POLLOUT, 0};
  const bool ready = poll(&server, 1, 0) == 1 && (server.revents & POLLOUT) != 0;
  std::vector<nlohmann::json> instant;
  if (ready) instant = heads_.read_instant();
  bool failed = syncfs(root_.get()) != 0;
  if (failed && !failing_)
    spdlog::error("writing back the mount's pages failed: {}", std::strerror(errno));
  failing_ = failed;
  if (!ready) return;
  instant.back()["tokens"] = std::exchange(tokens_, {});
  for (nlohmann::json& message : instant) {
    message["server"] = server_;
    send_message(server_channel, message);
  }
}

bool Flusher::on_server_message(const nlohmann::json& message) {
  if (message.contains("server")) {
    server_ = message.value("server", uint64_t{0});
    heads_.forget_all();
    tokens_.clear();
  } else if (message.contains("watch")) {
    heads_.watch(message.value("watch", uint64_t{0}), message.value("path", ""));
  } else if (message.contains("unwatch")) {
    heads_.unwatch(message.value("unwatch", uint64_t{0}));
  } else if (message.contains("barrier")) {
    for (const auto& path : message["paths"]) fsync_path(path.get<std::string>());
    const auto token = message.value("barrier", uint64_t{0});
    if (token != 0) tokens_.push_back(token);
    return token != 0;
  }
  return false;
}

// Unlike syncfs(2) on a FUSE mount, fsync(2) waits until the server has answered every WRITE.
void Flusher::fsync_path(const std::string& path) const {
  FileDescriptor file(
      openat(root_.get(), path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.valid() && fsync(file.get()) != 0)
    spdlog::error("writing back {} failed: {}", path, std::strerror(errno));
}

Result<FileDescriptor> open_mount_root(const std::string& mountpoint) {
  FileDescriptor tree(clone_mount(mountpoint.c_str()));
  if (!tree.valid()) return error_from_errno("cannot copy the mount " + mountpoint, errno);
  FileDescriptor root(openat(tree.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return error_from_errno("cannot open the mount " + mountpoint, errno);
  return root;
}

int run_flusher() {
  signal(SIGTERM, SIG_IGN);  // The keeper decides when it ends.
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  auto text = read_text_fd(kFlusherOptions, kOptionsSizeMax);
  if (!text) return 1;
  auto options = mount_options_from_text(*text);
  if (!options) return 1;
  for (int fd = kFlusherOptions; fd < kFlusherEnd; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  set_up_logging(*options, "flusher");
  return FlusherProcess(std::move(*options)).run();
}

}  // namespace walfs
