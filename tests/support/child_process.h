// Programs and pieces of tests in processes of their own, always with a deadline.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace walfs::test {

using Seconds = std::chrono::seconds;

constexpr int kTimedOut = -1;

// The exit status (128 + signal), or kTimedOut after killing it.
inline int wait_or_kill(pid_t pid, Seconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= end) {
      kill(pid, SIGKILL);
      // Whoever hangs uninterruptibly is not waited for.
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      waitpid(pid, &status, WNOHANG);
      return kTimedOut;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct Output {
  int status = 0;
  std::string text;  // Standard output and standard error.
};

inline Output run_program(const std::vector<std::string>& words, Seconds limit = Seconds(30)) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {kTimedOut, "no pipe"};
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(ends[1]);
  Output output;
  auto end = std::chrono::steady_clock::now() + limit;
  char part[4096];
  while (true) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    pollfd waiting = {ends[0], POLLIN, 0};
    if (left.count() <= 0 || poll(&waiting, 1, static_cast<int>(left.count())) <= 0) break;
    ssize_t got = read(ends[0], part, sizeof part);
    if (got <= 0) break;
    output.text.append(part, static_cast<size_t>(got));
  }
  close(ends[0]);
  output.status = wait_or_kill(pid, Seconds(5));
  return output;
}

// Runs the body in a child; what it returns is its exit status.
inline int run_in_child(const std::function<int()>& body, Seconds limit = Seconds(30)) {
  pid_t pid = fork();
  if (pid == 0) _exit(body());
  return wait_or_kill(pid, limit);
}

// A child that is killed and reaped at the end of the scope if it still runs.
class Child {
 public:
  explicit Child(const std::function<int()>& body) : pid_(fork()) {
    if (pid_ == 0) _exit(body());
  }
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    wait_or_kill(pid_, Seconds(5));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }
  int wait(Seconds limit = Seconds(30)) { return wait_or_kill(std::exchange(pid_, -1), limit); }

 private:
  pid_t pid_;
};

}  // namespace walfs::test
