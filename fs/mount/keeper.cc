#include "fs/mount/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
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
#include "fs/mount/kept_descriptors.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/process.h"
#include "fs/mount/server.h"
#include "fs/mount/server_process.h"
#include "fs/mount/session.h"
#include "fs/mount/shared_state.h"
#include "fs/mount/users.h"

namespace walfs {
namespace {

constexpr int kShippingServersMax = 3;
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
  // Instead: goes on with what another program held (`held` is from upgrade()), and replaces its
  // processes.
  Status adopt(const nlohmann::json& held);
  int run();

 private:
  // Waits for what is to be done, and does it. True: `also` is readable.
  bool step(int also);
  Status block_signals();
  Status mount_device();
  void raise_dirty_limits() const;
  Status start_flusher();
  Status wait_for_flusher();
  bool mounted() const;
  void on_signal();
  void on_child(pid_t pid, int status);
  void on_server_end(int status);
  void restart_flusher();
  void upgrade(const std::string& binary);
  template <typename Visit>
  void for_each_descriptor(Visit&& visit);
  ServerProcess::Inherited inherited() const;
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
  std::pair<FileDescriptor, FileDescriptor> flusher_channel_;
  std::pair<FileDescriptor, FileDescriptor> between_;  // Server's end, flusher's end.
  MountEntry mount_;
  ServerProcess server_;
  int shipping_servers_ = 0;  // Started after the mount was gone.
  pid_t flusher_ = -1;
  bool mounted_once_ = false;
  bool started_ = false;
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

// It looks at the root through the mount. A server that hangs or dies meanwhile is replaced.
Status Keeper::wait_for_flusher() {
  send_message(flusher_channel_.first.get(), {{"mount_id", mount_.mount_id}});
  const int64_t end = now_ms() + kFlusherStartTimeoutMs;
  while (!step(flusher_channel_.first.get())) {
    if (verdict_) return Error{Errc::kIo, "the server process ended before it served"};
    if (now_ms() >= end)
      return Error{Errc::kIo, "nobody serves the mount after " +
                                  std::to_string(kFlusherStartTimeoutMs / 1000) +
                                  " s; the log says why"};
  }
  auto message = receive_message(flusher_channel_.first.get(), 0);
  if (message && message->value("event", "") == "ready") return {};
  return Error{Errc::kIo, message ? message->value("message", "") : "the flusher process ended"};
}

Status Keeper::start() {
  WALFS_TRY(block_signals());
  WALFS_TRY(check_places(options_.source, options_.mountpoint));
  WALFS_ASSIGN(backing_, open_backing(options_.source, options_.mountpoint));
  WALFS_ASSIGN(options_fd_, make_text_memfd("walfs-options", mount_options_to_text(options_)));
  WALFS_ASSIGN(state_, make_shared_state());
  WALFS_ASSIGN(control_, listen_control(control_socket_path(options_.mountpoint)));
  WALFS_ASSIGN(between_, make_channel());
  WALFS_TRY(start_flusher());  // Before the device is open: it must never have it.
  WALFS_TRY(mount_device());
  WALFS_TRY(server_.open(inherited()));
  WALFS_TRY(server_.start(flusher_));
  WALFS_TRY(wait_for_flusher());
  started_ = true;
  spdlog::info("serving {} at {}", options_.source, options_.mountpoint);
  return {};
}

// The number alone does not tell: the next mount of anybody gets that of one which is gone. Nobody
// else can mount the same source before we have ended.
bool Keeper::mounted() const {
  auto mounts = read_mountinfo();
  return std::any_of(mounts.begin(), mounts.end(), [&](const MountEntry& entry) {
    return entry.mount_id == mount_.mount_id && entry.type == mount_.type &&
           entry.source == mount_.source;
  });
}

void Keeper::restart_flusher() {
  poll(nullptr, 0, 200);  // Not in a tight loop, whatever it dies of.
  if (!start_flusher()) return;
  send_message(flusher_channel_.first.get(), {{"mount_id", mount_.mount_id}});
  server_.send({{"flusher_pid", flusher_}});
}

void Keeper::on_child(pid_t pid, int status) {
  if (pid == server_.pid()) {
    on_server_end(status);
  } else if (pid == flusher_) {
    flusher_ = -1;
    if (started_ && !draining_ && mounted()) {
      spdlog::error("the flusher ended unexpectedly (status {}); starting it again", status);
      restart_flusher();
    }
  }
}

// Applications never notice: the next server goes on where this one ended. If only shipping is
// left, a few more try that.
void Keeper::on_server_end(int status) {
  const bool serving = mounted() && !finish_sent_;
  server_.died();
  if (status == kServerHandsOver && !finish_sent_) return;
  if (status < 128 && !serving) {
    verdict_ = status;
    return;
  }
  spdlog::error("the server ended unexpectedly (status {})", status);
  if (!can_replace_server() || finish_sent_) verdict_ = 1;
  if (!serving && ++shipping_servers_ > kShippingServersMax) verdict_ = 1;
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
  server_.send({{"do", "finish"}});
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
                                             {server_.pid(), flusher_, getpid()})));
    }
    if (error != 0 && now_ms() >= drain_end_ms_) detach();
    return;
  }
  // Unmounted: the server ships what is left, bounded by the same time, and ends.
  if (server_.pid() > 0 && now_ms() >= drain_end_ms_ + options_.unmount_timeout_ms + kKillGraceMs) {
    spdlog::error("the server does not end; killing it");
    shipping_servers_ = kShippingServersMax;
    server_.kill_now();
  }
}

bool Keeper::step(int also) {
  pollfd waiting[4] = {{signals_.get(), POLLIN, 0},
                       {server_.nodes_channel(), POLLIN, 0},
                       {server_.channel(), POLLIN, 0},
                       {also, POLLIN, 0}};
  int64_t timeout_ms = server_.until_tick_ms();
  if (draining_ && (timeout_ms < 0 || timeout_ms > kUnmountRetryMs)) timeout_ms = kUnmountRetryMs;
  poll(waiting, 4, static_cast<int>(timeout_ms));
  if (waiting[1].revents != 0) receive_descriptors(server_.nodes_channel());
  if (waiting[2].revents != 0) {
    const auto wanted = server_.receive();
    if (wanted && wanted->value("do", "") == "upgrade") upgrade(wanted->value("binary", ""));
  }
  on_signal();
  if (!verdict_) server_.tick(flusher_);
  if (!verdict_ && draining_) drain();
  return waiting[3].revents != 0;
}

int Keeper::run() {
  while (!verdict_) step(-1);
  return *verdict_;
}

ServerProcess::Inherited Keeper::inherited() const {
  return {options_fd_.get(), between_.first.get(), device_.get(), backing_.directory.get(),
          control_.get(),    backing_.lock.get(),  state_.get()};
}

template <typename Visit>
void Keeper::for_each_descriptor(Visit&& visit) {
  visit("device", device_);
  visit("state", state_);
  visit("options", options_fd_);
  visit("control", control_);
  visit("backing", backing_.directory);
  visit("backing_state", backing_.state);
  visit("lock", backing_.lock);
  visit("flusher_channel", flusher_channel_.first);
  visit("between_server", between_.first);
  visit("between_flusher", between_.second);
  server_.for_each_descriptor(visit);
}

// Becomes another program with the same process id, children and descriptors. If that cannot be
// started, everything is as before.
void Keeper::upgrade(const std::string& binary) {
  if (draining_) return;
  nlohmann::json held = {
      {"mount_id", mount_.mount_id}, {"server", server_.pid()}, {"flusher", flusher_}};
  for_each_descriptor([&](const char* name, const FileDescriptor& fd) {
    held[name] = fd.get();
    if (fd.valid()) fcntl(fd.get(), F_SETFD, 0);
  });
  auto list = make_text_memfd("walfs-held", held.dump());
  if (list) {
    fcntl(list->get(), F_SETFD, 0);
    const std::string number = std::to_string(list->get());
    execl(binary.c_str(), "walfs", "keep-internal", number.c_str(), nullptr);
  }
  spdlog::error("cannot become {}: {}", binary, std::strerror(errno));
  for_each_descriptor([](const char*, const FileDescriptor& fd) {
    if (fd.valid()) fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  });
}

Status Keeper::adopt(const nlohmann::json& held) {
  for_each_descriptor([&](const char* name, FileDescriptor& fd) {
    fd.reset(held.value(name, -1));
    if (fd.valid()) fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  });
  flusher_ = held.value("flusher", -1);
  for (const MountEntry& entry : read_mountinfo())
    if (entry.mount_id == held.value("mount_id", 0)) mount_ = entry;
  if (mount_.mount_id == 0)
    return Error{Errc::kIo, options_.mountpoint + " is not mounted any more"};
  mounted_once_ = started_ = true;
  WALFS_TRY(block_signals());
  WALFS_TRY(server_.adopt(inherited(), held.value("server", -1)));
  spdlog::info("walfs {} goes on with {}", WALFS_VERSION, options_.mountpoint);
  // Both are started again as children that died are.
  server_.kill_now();
  kill(flusher_, SIGKILL);
  return {};
}

// The order matters: with every descriptor of the device closed the kernel fails what still waits
// for the mount, and only then can everybody be reaped.
void Keeper::clean_up() {
  if (server_.pid() > 0) {
    server_.kill_now();
    wait_for_exit(server_.pid(), -1);
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

void prepare_keeper(const MountOptions& options) {
  set_up_logging(options, "keeper");
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  raise_descriptor_limit();  // One for each inode that the kernel knows.
}

}  // namespace

int run_keeper_again(int held_fd) {
  const auto text = read_text_fd(held_fd, kOptionsSizeMax);
  close(held_fd);
  const auto held = nlohmann::json::parse(text ? *text : "", nullptr, false);
  if (!held.is_object()) return 2;
  const auto options_text = read_text_fd(held.value("options", -1), kOptionsSizeMax);
  if (!options_text) return 2;
  const auto options = mount_options_from_text(*options_text);
  if (!options) return 2;
  prepare_keeper(*options);
  Keeper keeper(*options);
  if (const Status adopted = keeper.adopt(held); !adopted) {
    spdlog::error("{}", adopted.error().message);
    return exit_code(adopted.error());
  }
  return keeper.run();
}

int run_keeper(const MountOptions& options, const std::function<void(const Status&)>& ready) {
  prepare_keeper(options);
  Keeper keeper(options);
  Status started = keeper.start();
  ready(started);
  if (!started) return exit_code(started.error());
  return keeper.run();
}

}  // namespace walfs
