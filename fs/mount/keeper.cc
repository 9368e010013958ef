#include "fs/mount/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fs/mount/backing.h"
#include "fs/mount/channels.h"
#include "fs/mount/control.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/process.h"
#include "fs/mount/users.h"

namespace walfs {
namespace {

constexpr int64_t kServerStartTimeoutMs = 300000;
constexpr int64_t kFlusherStartTimeoutMs = 30000;
constexpr int64_t kUnmountRetryMs = 200;
constexpr int64_t kBusyLogMs = 5000;
constexpr int64_t kKillGraceMs = 5000;

class Keeper {
 public:
  explicit Keeper(const MountOptions& options) : options_(options) {}
  ~Keeper() { clean_up(); }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  Status start();
  int run();

 private:
  Status block_signals();
  Status mount_device();
  void raise_dirty_limits() const;
  Status start_server();
  Status start_flusher();
  bool mounted() const;
  void on_signal();
  void on_child(pid_t pid, int status);
  void restart_flusher();
  void begin_drain();
  void drain();
  void detach();
  void clean_up();

  const MountOptions options_;
  BackingDirectory backing_;
  FileDescriptor device_;
  FileDescriptor state_;
  FileDescriptor options_fd_;
  FileDescriptor control_;
  FileDescriptor signals_;
  std::pair<FileDescriptor, FileDescriptor> server_channel_;
  std::pair<FileDescriptor, FileDescriptor> flusher_channel_;
  std::pair<FileDescriptor, FileDescriptor> between_;  // Server's end, flusher's end.
  MountEntry mount_;
  pid_t server_ = -1;
  pid_t flusher_ = -1;
  bool mounted_once_ = false;
  bool draining_ = false;
  bool finish_sent_ = false;
  int64_t drain_end_ms_ = 0;
  int64_t busy_logged_ms_ = 0;
  std::optional<int> verdict_;
};

Status Keeper::block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
    return error_from_errno("cannot block signals", errno);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return error_from_errno("cannot make a signalfd", errno);
  return {};
}

Status Keeper::mount_device() {
  device_.reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device_.valid())
    return error_from_errno("cannot open /dev/fuse (is the fuse module loaded?)", errno);
  std::string data = "fd=" + std::to_string(device_.get()) +
                     ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions";
  if (mount(options_.source.c_str(), options_.mountpoint.c_str(), kMountType, MS_NOSUID | MS_NODEV,
            data.c_str()) != 0)
    return error_from_errno("cannot mount at " + options_.mountpoint, errno);
  mounted_once_ = true;
  auto entry = mount_at(options_.mountpoint);
  if (!entry || entry->type != kMountType)
    return Error{Errc::kIo, "the mount at " + options_.mountpoint + " is not to be seen"};
  mount_ = *entry;
  raise_dirty_limits();
  return {};
}

// A FUSE mount may by default have 1 % of the dirty pages that the system allows before writers
// are slowed down. Best effort: /sys can be read-only.
void Keeper::raise_dirty_limits() const {
  const std::string bdi = "/sys/class/bdi/" + std::to_string(mount_.device_major) + ":" +
                          std::to_string(mount_.device_minor);
  std::ofstream(bdi + "/max_ratio") << 100 << std::endl;
  std::ofstream(bdi + "/strict_limit") << 0 << std::endl;
}

Status Keeper::start_server() {
  auto server = spawn_self(
      "serve-internal", {},
      {options_fd_.get(), server_channel_.second.get(), between_.first.get(), device_.get(),
       backing_.directory.get(), control_.get(), backing_.lock.get(), state_.get()});
  if (!server) return server.error();
  server_ = *server;
  server_channel_.second.reset();  // Its end is seen when the server is gone.
  send_message(server_channel_.first.get(), {{"keeper_pid", getpid()}, {"flusher_pid", flusher_}});
  auto message = receive_message(server_channel_.first.get(), kServerStartTimeoutMs);
  if (!message) return Error{Errc::kIo, "the server process ended before it served"};
  if (message->value("event", "") == "ready") return {};
  return Error{static_cast<Errc>(message->value("code", static_cast<int>(Errc::kIo))),
               message->value("message", "the server process failed")};
}

Status Keeper::start_flusher() {
  WALFS_ASSIGN(flusher_channel_, make_channel());
  auto flusher = spawn_self(
      "flush-internal", {},
      {options_fd_.get(), flusher_channel_.second.get(), between_.second.get(), state_.get()});
  if (!flusher) return flusher.error();
  flusher_ = *flusher;
  flusher_channel_.second.reset();
  return {};
}

Status Keeper::start() {
  WALFS_TRY(block_signals());
  WALFS_TRY(check_places(options_.source, options_.mountpoint));
  WALFS_ASSIGN(backing_, open_backing(options_.source, options_.mountpoint));
  WALFS_ASSIGN(options_fd_, make_text_memfd("walfs-options", mount_options_to_text(options_)));
  state_.reset(memfd_create("walfs-state", MFD_CLOEXEC));
  if (!state_.valid() || ftruncate(state_.get(), kSharedStateSize) != 0)
    return error_from_errno("cannot create a memfd", errno);
  WALFS_ASSIGN(control_, listen_control(control_socket_path(options_.mountpoint)));
  WALFS_ASSIGN(server_channel_, make_channel());
  WALFS_ASSIGN(between_, make_channel());
  WALFS_TRY(start_flusher());  // Before the device is open: it must never have it.
  WALFS_TRY(mount_device());
  WALFS_TRY(start_server());
  send_message(flusher_channel_.first.get(), {{"mount_id", mount_.mount_id}});
  auto message = receive_message(flusher_channel_.first.get(), kFlusherStartTimeoutMs);
  if (!message || message->value("event", "") != "ready")
    return Error{Errc::kIo,
                 message ? message->value("message", "") : "the flusher process does not start"};
  spdlog::info("serving {} at {}", options_.source, options_.mountpoint);
  return {};
}

bool Keeper::mounted() const {
  auto mounts = read_mountinfo();
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const MountEntry& entry) { return entry.mount_id == mount_.mount_id; });
}

void Keeper::restart_flusher() {
  poll(nullptr, 0, 200);  // Not in a tight loop, whatever it dies of.
  if (!start_flusher()) return;
  send_message(flusher_channel_.first.get(), {{"mount_id", mount_.mount_id}});
  send_message(server_channel_.first.get(), {{"flusher_pid", flusher_}});
}

void Keeper::on_child(pid_t pid, int status) {
  if (pid == server_) {
    server_ = -1;
    bool crashed = status >= 128 || (mounted() && !finish_sent_);
    if (crashed) spdlog::error("the server ended unexpectedly (status {})", status);
    verdict_ = crashed ? 1 : status;
  } else if (pid == flusher_) {
    flusher_ = -1;
    if (!draining_ && mounted()) {
      spdlog::error("the flusher ended unexpectedly (status {}); starting it again", status);
      restart_flusher();
    }
  }
}

void Keeper::begin_drain() {
  if (draining_) {
    drain_end_ms_ = 0;  // Asked twice: no more waiting for those who use the mount.
    return;
  }
  spdlog::info("unmounting {}", options_.mountpoint);
  draining_ = true;
  drain_end_ms_ = now_ms() + options_.unmount_timeout_ms;
}

void Keeper::on_signal() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) begin_drain();
  }
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) on_child(pid, status_of_wait(status));
}

void Keeper::detach() {
  spdlog::warn("{} is still in use; detaching it", options_.mountpoint);
  unmount_by_helper(options_.mountpoint, MNT_DETACH, kKillGraceMs);
  // Those who still use it would keep the server for ever.
  send_message(flusher_channel_.first.get(), {{"do", "stop"}});
  if (flusher_ > 0 && wait_for_exit(flusher_, kKillGraceMs)) flusher_ = -1;
  send_message(server_channel_.first.get(), {{"do", "finish"}});
  finish_sent_ = true;
}

// One step of unmounting; called every kUnmountRetryMs.
void Keeper::drain() {
  if (mounted() && !finish_sent_) {
    int error = unmount_by_helper(options_.mountpoint, 0, kKillGraceMs);
    if (error == EBUSY && now_ms() >= busy_logged_ms_ + kBusyLogMs) {
      busy_logged_ms_ = now_ms();
      spdlog::warn("{} is in use by {}", options_.mountpoint,
                   describe(find_mount_users(mount_.device_major, mount_.device_minor,
                                             {server_, flusher_, getpid()})));
    }
    if (error != 0 && now_ms() >= drain_end_ms_) detach();
    return;
  }
  // Unmounted: the server ships what is left, bounded by the same time, and ends.
  if (server_ > 0 && now_ms() >= drain_end_ms_ + options_.unmount_timeout_ms + kKillGraceMs) {
    spdlog::error("the server does not end; killing it");
    kill(server_, SIGKILL);
  }
}

int Keeper::run() {
  while (!verdict_) {
    pollfd waiting = {signals_.get(), POLLIN, 0};
    poll(&waiting, 1, draining_ ? static_cast<int>(kUnmountRetryMs) : -1);
    on_signal();
    if (draining_ && !verdict_) drain();
  }
  return *verdict_;
}

// The order matters: with every descriptor of the device closed the kernel fails what still waits
// for the mount, and only then can everybody be reaped.
void Keeper::clean_up() {
  if (server_ > 0) {
    kill(server_, SIGKILL);
    wait_for_exit(server_, -1);
  }
  device_.reset();
  if (flusher_ > 0) {
    // It may be writing its last line; without a server there is nothing left to flush.
    if (!wait_for_exit(flusher_, 100)) {
      kill(flusher_, SIGKILL);
      wait_for_exit(flusher_, kKillGraceMs);
    }
  }
  if (mounted_once_ && mount_.mount_id != 0 && mounted())
    unmount_by_helper(options_.mountpoint, MNT_DETACH, kKillGraceMs);
  if (control_.valid()) ::unlink(control_socket_path(options_.mountpoint).c_str());
}

}  // namespace

int run_keeper(const MountOptions& options, const std::function<void(const Status&)>& ready) {
  set_up_logging(options, "keeper");
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  Keeper keeper(options);
  Status started = keeper.start();
  ready(started);
  if (!started) return exit_code(started.error());
  return keeper.run();
}

}  // namespace walfs
