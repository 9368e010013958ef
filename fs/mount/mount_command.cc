// `walfs mount` and `walfs unmount`: what a user waits for.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/mount/backing.h"
#include "fs/mount/control.h"
#include "fs/mount/keeper.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/operations.h"
#include "fs/mount/process.h"
#include "fs/mount/shared_state.h"
#include "replicator/stores/store_url.h"

namespace walfs {
namespace {

void print_error(const Error& error) {
  std::fprintf(stderr, "walfs: %s\n", error.message.c_str());
}

Status make_paths_real(MountOptions& options) {
  if (options.mountpoint.empty()) options.mountpoint = options.source;
  WALFS_ASSIGN(options.source, real_directory_path(options.source));
  WALFS_ASSIGN(options.mountpoint, real_directory_path(options.mountpoint));
  const auto replica = parse_store_url(options.replica_url);
  const FileUrl* file = replica.ok() ? std::get_if<FileUrl>(&*replica) : nullptr;
  if (file != nullptr)
    WALFS_TRY(check_outside("the replica", file->path, options.source, options.mountpoint));
  if (options.credentials_file.empty()) return {};
  return check_outside("the credentials file", options.credentials_file, options.source,
                       options.mountpoint);
}

// Opened before the mount covers it. Without `.walfs` yet, it is made here.
Result<FileDescriptor> open_log(const MountOptions& options) {
  std::string path = options.log_file;
  if (path.empty()) {
    WALFS_TRY(check_places(options.source, options.mountpoint));
    std::string state = options.source + "/" + kStateDirectory;
    if (mkdir(state.c_str(), 0700) != 0 && errno != EEXIST)
      return error_from_errno("cannot make " + state, errno);
    path = state + "/walfs.log";
  }
  FileDescriptor fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) return error_from_errno("cannot open the log file " + path, errno);
  return fd;
}

// The daemon keeps nothing of the terminal or pipe that started it.
void leave_starter(const FileDescriptor& log) {
  setsid();
  if (chdir("/") != 0) std::perror("walfs: cannot leave the working directory");
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  dup2(null, 1);
  dup2(log.get(), 2);
  close(null);
}

int wait_until_ready(int pipe_fd, pid_t keeper) {
  auto message = receive_message(pipe_fd, -1);
  if (message && message->contains("ready")) return 0;
  std::string text = message ? message->value("message", "") : "the keeper process ended";
  std::fprintf(stderr, "walfs: %s\n", text.c_str());
  waitpid(keeper, nullptr, 0);
  return message ? message->value("code", 1) : 1;
}

int run_daemon(const MountOptions& options) {
  auto log = open_log(options);
  auto channel = make_channel();
  if (!log || !channel) {
    const Error& error = log ? channel.error() : log.error();
    print_error(error);
    return exit_code(error);
  }
  pid_t keeper = fork();
  if (keeper < 0) {
    print_error(error_from_errno("cannot start the keeper process", errno));
    return 1;
  }
  if (keeper > 0) {
    channel->second.reset();
    return wait_until_ready(channel->first.get(), keeper);
  }
  channel->first.reset();
  leave_starter(*log);
  int status = run_keeper(options, [&](const Status& ready) {
    if (ready) {
      send_message(channel->second.get(), {{"ready", true}});
    } else {
      send_message(channel->second.get(),
                   {{"message", ready.error().message}, {"code", exit_code(ready.error())}});
    }
    channel->second.reset();
  });
  _exit(status);
}

int open_pidfd(int64_t pid) {
  return pid > 0 ? static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)) : -1;
}

bool wait_until_gone(const FileDescriptor& process, int64_t timeout_ms) {
  if (!process.valid()) return true;
  pollfd waiting = {process.get(), POLLIN, 0};
  return poll(&waiting, 1, static_cast<int>(timeout_ms)) == 1;
}

}  // namespace

int run_mount_command(MountOptions options) {
  if (Status real = make_paths_real(options); !real) {
    print_error(real.error());
    return exit_code(real.error());
  }
  if (!options.foreground) return run_daemon(options);
  if (!options.log_file.empty()) {
    auto log = open_log(options);
    if (!log) {
      print_error(log.error());
      return exit_code(log.error());
    }
    dup2(log->get(), 2);
  }
  return run_keeper(options, [](const Status& ready) {
    if (!ready) print_error(ready.error());
  });
}

Status run_upgrade_command(const std::string& mountpoint, int64_t timeout_ms) {
  WALFS_ASSIGN(const std::string path, real_directory_path(mountpoint));
  char binary[PATH_MAX] = {};
  if (readlink("/proc/self/exe", binary, sizeof binary - 1) < 0)
    return error_from_errno("cannot find out which program this is", errno);
  const int64_t end = now_ms() + timeout_ms;
  WALFS_ASSIGN(const auto before, control_request(path, {{"command", "status"}}, timeout_ms));
  WALFS_ASSIGN(const auto answer, control_request(path,
                                                  {{"command", "upgrade"},
                                                   {"binary", std::string(binary)},
                                                   {"format", kSharedStateFormat}},
                                                  timeout_ms));
  if (answer.contains("error"))
    return Error{Errc::kUnsupported, answer.value("error", "the mount cannot be upgraded")};
  while (now_ms() < end) {
    const auto status = control_request(path, {{"command", "status"}}, end - now_ms());
    const bool replaced = status && !status->contains("error") &&
                          status->value("server_pid", 0) != before.value("server_pid", 0) &&
                          status->value("flusher_pid", 0) != before.value("flusher_pid", 0) &&
                          status->value("version", "") == WALFS_VERSION;
    if (replaced) {
      std::printf("%s is served by walfs %s now\n", path.c_str(), WALFS_VERSION);
      return {};
    }
    poll(nullptr, 0, 10);
  }
  return Error{Errc::kRetry, path + " was not taken over in time; its log says why"};
}

Status run_unmount_command(const std::string& mountpoint, int64_t timeout_ms, bool force) {
  WALFS_ASSIGN(std::string path, real_directory_path(mountpoint));
  auto status = control_request(path, {{"command", "status"}}, timeout_ms);
  if (!status) {
    auto mounted = mount_at(path);
    if (!mounted || mounted->type != kMountType) return status.error();
    if (int error = unmount_by_helper(path, force ? kDetach : 0, timeout_ms))
      return error_from_errno("cannot unmount " + path, error);
    return {};
  }
  FileDescriptor server(open_pidfd(status->value("server_pid", 0)));
  FileDescriptor keeper(open_pidfd(status->value("keeper_pid", 0)));
  const int64_t end = now_ms() + timeout_ms;
  auto answer =
      control_request(path, {{"command", "unmount"}, {"timeout_ms", timeout_ms}, {"force", force}},
                      timeout_ms + 5000);
  if (!answer) return answer.error();
  if (answer->contains("error"))
    return Error{Errc::kIo, answer->value("error", "cannot unmount " + path)};
  if (answer->contains("left"))
    std::fprintf(stderr, "walfs: %s; the next mount finds it\n", answer->value("left", "").c_str());
  // The keeper ends last, and with it the last descriptors of removed files, which may be large.
  constexpr int64_t kKeeperEndsMs = 10000;
  if (!wait_until_gone(server, std::max<int64_t>(1000, end - now_ms())) ||
      !wait_until_gone(keeper, std::max(kKeeperEndsMs, end - now_ms())))
    return Error{Errc::kRetry, path + " is unmounted, but walfs is still shipping what is left"};
  return {};
}

}  // namespace walfs
