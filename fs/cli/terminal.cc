#include "fs/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

namespace walfs {
namespace {

std::atomic<bool> interrupted{false};

void on_interrupt(int) {
  interrupted = true;
}

void draw_progress(const RestoreProgress& progress) {
  constexpr int kWidth = 40;
  static int drawn = -1;
  const int percent = progress.bytes_total == 0
                          ? 100
                          : static_cast<int>(progress.bytes_done * 100 / progress.bytes_total);
  if (percent == drawn) return;
  drawn = percent;
  const int filled = percent * kWidth / 100;
  std::fprintf(stderr, "\r  [%.*s%*s] %3d %% of %lu MiB", filled,
               "########################################", kWidth - filled, "", percent,
               static_cast<unsigned long>(progress.bytes_total >> 20));
  if (percent == 100) std::fprintf(stderr, "\n");
}

}  // namespace

const std::atomic<bool>* catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  return &interrupted;
}

std::function<void(const RestoreProgress&)> progress_on_terminal() {
  if (::isatty(STDERR_FILENO) != 1) return {};
  return draw_progress;
}

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
  return text;
}

}  // namespace walfs
