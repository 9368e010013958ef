#include "fs/mount/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

namespace walfs {
namespace {

constexpr size_t kMessageSizeMax = 64 * 1024;

// After fork: only async-signal-safe calls, because the server has threads.
[[noreturn]] void become_child(const std::vector<int>& descriptors, int keep_from,
                               char* const* argv) {
  constexpr int kAbove = 200;
  std::array<int, 16> moved = {};
  for (size_t i = 0; i < descriptors.size(); ++i)
    moved[i] = descriptors[i] < 0 ? -1 : fcntl(descriptors[i], F_DUPFD, kAbove);
  for (size_t i = 0; i < descriptors.size(); ++i) {
    int number = static_cast<int>(i) + 3;
    if (moved[i] < 0) {
      close(number);
    } else {
      dup2(moved[i], number);
    }
  }
  const unsigned last = keep_from > 0 ? static_cast<unsigned>(keep_from) - 1 : ~0U;
  syscall(SYS_close_range, static_cast<unsigned>(descriptors.size() + 3), last, 0);
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv("/proc/self/exe", argv);
  _exit(127);
}

}  // namespace

Result<pid_t> spawn_self(const std::string& subcommand, const std::vector<std::string>& arguments,
                         const std::vector<int>& descriptors, int keep_from) {
  std::vector<std::string> words = {"walfs", subcommand};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = fork();
  if (pid < 0) return error_from_errno("cannot start the " + subcommand + " process", errno);
  if (pid == 0) become_child(descriptors, keep_from, argv.data());
  return pid;
}

Result<std::pair<FileDescriptor, FileDescriptor>> make_channel() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return error_from_errno("cannot make a socket pair", errno);
  return std::pair(FileDescriptor(ends[0]), FileDescriptor(ends[1]));
}

bool send_message(int channel, const nlohmann::json& message) {
  // CBOR, and not text: names of files are bytes, not always UTF-8.
  const std::vector<uint8_t> bytes = nlohmann::json::to_cbor(message);
  while (true) {
    ssize_t sent = send(channel, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return true;
    if (errno != EINTR) return false;
  }
}

std::optional<nlohmann::json> receive_message(int channel, int64_t timeout_ms) {
  const int64_t end = now_ms() + timeout_ms;
  while (true) {
    int64_t left = timeout_ms < 0 ? -1 : std::max<int64_t>(0, end - now_ms());
    pollfd waiting = {channel, POLLIN, 0};
    int ready = poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    std::vector<uint8_t> bytes(kMessageSizeMax);
    ssize_t size = recv(channel, bytes.data(), bytes.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return std::nullopt;
    bytes.resize(static_cast<size_t>(size));
    auto message = nlohmann::json::from_cbor(bytes, /*strict=*/true, /*allow_exceptions=*/false);
    if (!message.is_object()) return std::nullopt;
    return message;
  }
}

Result<FileDescriptor> make_text_memfd(const char* name, const std::string& text) {
  FileDescriptor fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return error_from_errno("cannot create a memfd", errno);
  if (pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return error_from_errno("cannot write a memfd", errno);
  return fd;
}

Result<std::string> read_text_fd(int fd, size_t size_max) {
  std::string text(size_max, '\0');
  size_t size = 0;
  while (size < size_max) {
    ssize_t got = pread(fd, text.data() + size, size_max - size, static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_from_errno("cannot read an inherited descriptor", errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

int status_of_wait(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

std::optional<int> wait_for_exit(pid_t pid, int64_t timeout_ms) {
  const int64_t end = now_ms() + timeout_ms;
  while (true) {
    int status = 0;
    pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status_of_wait(status);
    if (ended < 0 && errno != EINTR) return 0;
    if (timeout_ms >= 0 && now_ms() >= end) return std::nullopt;
    poll(nullptr, 0, 2);
  }
}

int run_unmount_helper(const std::string& mountpoint, int flags) {
  return umount2(mountpoint.c_str(), flags | UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
}

int unmount_by_helper(const std::string& mountpoint, int flags, int64_t timeout_ms) {
  auto helper = spawn_self("unmount-internal", {mountpoint, std::to_string(flags)}, {});
  if (!helper) return EIO;
  auto status = wait_for_exit(*helper, timeout_ms);
  return status ? *status : ETIMEDOUT;
}

uint64_t raise_descriptor_limit() {
  rlim_t most = 0;
  std::ifstream("/proc/sys/fs/nr_open") >> most;
  rlimit limit = {most, most};
  if (most != 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0) return most;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max;
}

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace walfs
