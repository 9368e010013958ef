// pause and resume: replication rests, and the application goes on.
#include <poll.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/mount/backing.h"
#include "fs/mount/control.h"
#include "fs/mount/process.h"

namespace walfs {
namespace {

using nlohmann::json;

constexpr int64_t kLookAgainMs = 20;

// The server that is asked hands over to another; done is what that one says of itself.
Result<json> ask_until(const std::string& path, const char* command, int64_t timeout_ms,
                       const std::function<bool(const json& paused)>& done) {
  const int64_t end = now_ms() + timeout_ms;
  WALFS_ASSIGN(const json answer, control_request(path, {{"command", command}}, timeout_ms));
  if (answer.contains("error")) return Error{Errc::kUnsupported, answer.value("error", "")};
  while (now_ms() < end) {
    WALFS_ASSIGN(const json status, control_request(path, {{"command", "status"}}, end - now_ms()));
    const json paused = status.value("paused", json());
    if (done(paused)) return status;
    poll(nullptr, 0, kLookAgainMs);
  }
  return Error{Errc::kRetry, path + " did not " + command + " in time; its log says why"};
}

bool was_asked(const json& paused) {
  if (!paused.is_object()) return false;
  for (const json& reason : paused.value("reasons", json::array()))
    if (reason == "asked") return true;
  return false;
}

}  // namespace

Status run_pause_command(const std::string& mountpoint, int64_t timeout_ms) {
  WALFS_ASSIGN(const std::string path, real_directory_path(mountpoint));
  WALFS_ASSIGN(const json status, ask_until(path, "pause", timeout_ms, was_asked));
  std::printf("replication of %s is paused; walfs resume ships what is written meanwhile\n",
              path.c_str());
  if (status.value("durability", "") == "sync")
    std::printf("commits wait for the store, and so for that (--durability sync)\n");
  return {};
}

Status run_resume_command(const std::string& mountpoint, int64_t timeout_ms) {
  WALFS_ASSIGN(const std::string path, real_directory_path(mountpoint));
  const auto done = [](const json& paused) { return !was_asked(paused); };
  WALFS_ASSIGN(const json status, ask_until(path, "resume", timeout_ms, done));
  const json paused = status.value("paused", json());
  if (paused.is_object())
    return Error{Errc::kRetry,
                 path + " goes on by itself, but not yet: " + paused.value("why", "")};
  std::printf("%s replicates again; walfs sync waits until all is in the store\n", path.c_str());
  return {};
}

}  // namespace walfs
