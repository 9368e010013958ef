#include "fs/mount/crash_points.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

namespace walfs {
namespace {

constexpr std::array<std::string_view, static_cast<size_t>(CrashPoint::kCount)> kNames = {
    "read", "executed", "kept", "replied"};

}  // namespace

std::array<uint32_t, static_cast<size_t>(CrashPoint::kCount)> detail::crash_one_in = {};
int detail::crash_signal = SIGKILL;

void detail::perhaps_crash(uint32_t one_in) {
  thread_local std::minstd_rand random(std::random_device{}());
  if (random() % one_in != 0) return;
  kill(getpid(), crash_signal);
  while (true) pause();
}

void read_crash_points_from_environment(uint32_t server) {
  const char* text = std::getenv("WALFS_CRASH_POINTS");
  if (text == nullptr) return;
  const std::string all = std::string(",") + text;
  const auto number = [&all](std::string_view name) -> uint32_t {
    const std::string key = "," + std::string(name) + ":";
    const size_t at = all.find(key);
    if (at == std::string::npos) return 0;
    return static_cast<uint32_t>(std::strtoul(all.c_str() + at + key.size(), nullptr, 10));
  };
  const uint32_t servers = number("servers");
  if (servers != 0 && server > servers) return;
  if (all.find(",stop") != std::string::npos) detail::crash_signal = SIGSTOP;
  for (size_t i = 0; i < kNames.size(); ++i) detail::crash_one_in[i] = number(kNames[i]);
}

}  // namespace walfs
