// sync and status: questions to a running mount.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/json_output.h"
#include "fs/cli/size.h"
#include "fs/mount/backing.h"
#include "fs/mount/control.h"
#include "replicator/outage.h"

namespace walfs {
namespace {

using nlohmann::json;

constexpr int64_t kStatusTimeoutMs = 10000;
constexpr int64_t kAnswerGraceMs = 5000;

Result<json> ask(const std::string& mountpoint, const json& request, int64_t timeout_ms) {
  WALFS_ASSIGN(const std::string path, real_directory_path(mountpoint));
  WALFS_ASSIGN(json answer, control_request(path, request, timeout_ms));
  if (answer.contains("error")) return Error{Errc::kIo, answer.value("error", "")};
  return answer;
}

void print_status(const json& status) {
  const auto text = [&](const char* name) { return status.value(name, std::string("?")); };
  std::printf("%s\n", text("mountpoint").c_str());
  std::printf("  source      %s\n", text("source").c_str());
  std::printf("  replica     %s\n", text("replica").c_str());
  const int keeper = status.value("keeper_pid", 0);
  std::printf("  processes   keeper %s, server %d, flusher %d (walfs %s)\n",
              keeper > 0 ? std::to_string(keeper).c_str() : "gone", status.value("server_pid", 0),
              status.value("flusher_pid", 0), text("version").c_str());
  std::printf("  position    %s, in the store %s\n", text("position").c_str(),
              text("uploaded_position").c_str());
  const json backlog = status.value("backlog", json::object());
  std::printf("  backlog     %s in %s, lag %ld ms\n",
              describe_size(backlog.value("bytes", uint64_t{0})).c_str(),
              count_of(backlog.value("segments", uint64_t{0}), "segment").c_str(),
              static_cast<long>(status.value("lag_ms", int64_t{0})));
  if (const json paused = status.value("paused", json()); paused.is_object()) {
    std::printf("  PAUSED      since %s: %s\n", paused.value("since", "").c_str(),
                paused.value("why", "").c_str());
  }
  std::printf("  spool       %s of at most %s\n",
              describe_size(status.value("spool_bytes", uint64_t{0})).c_str(),
              describe_size(status.value("spool_limit", uint64_t{0})).c_str());
  const json first = status.value("first_upload", json::object());
  if (!first.value("done", true)) {
    std::printf("  first upload: %s of %s\n",
                describe_size(first.value("bytes_done", uint64_t{0})).c_str(),
                describe_size(first.value("bytes_total", uint64_t{0})).c_str());
  }
  std::printf("  fencing     %s\n", text("fencing").c_str());
  if (status.value("durability", std::string()) == "sync") {
    std::printf(
        "  durability  %s, %s waiting for the store\n",
        status.value("degraded", false) ? "DEGRADED to async until the store catches up" : "sync",
        count_of(status.value("commits_waiting", uint64_t{0}), "commit").c_str());
  }
  for (const json& reduced : status.value("reduced", json::array()))
    std::printf("  reduced     %s\n", reduced.get<std::string>().c_str());
  if (status.value("fenced", false)) std::printf("  FENCED: another writer has taken over\n");
  if (status.contains("last_error") && status["last_error"].is_string()) {
    std::printf("  last error  %s\n", status["last_error"].get<std::string>().c_str());
    const int64_t outage_ms = status.value("outage_ms", int64_t{0});
    if (outage_ms > 0)
      std::printf("  failing for %s\n", describe_duration(outage_ms * 1'000'000).c_str());
  }
  for (const json& database : status.value("databases", json::array())) {
    std::printf("  database    %s (%s%s)\n", database.value("path", "?").c_str(),
                describe_size(database.value("bytes", uint64_t{0})).c_str(),
                database.value("wal", false) ? ", WAL" : "");
  }
}

Status print_all_mounts(bool as_json) {
  json mounts = json::array();
  for (const std::string& path : control_sockets()) {
    auto answer = control_request_at(path, {{"command", "status"}}, kStatusTimeoutMs);
    if (answer.ok()) mounts.push_back(*answer);
  }
  if (as_json) {
    print_json(mounts);
    return {};
  }
  if (mounts.empty()) std::printf("no walfs mounts\n");
  for (const json& mount : mounts) print_status(mount);
  return {};
}

}  // namespace

Status run_sync_command(const std::string& mountpoint, int64_t timeout_ms) {
  WALFS_ASSIGN(const json answer, ask(mountpoint, {{"command", "sync"}, {"timeout_ms", timeout_ms}},
                                      timeout_ms + kAnswerGraceMs));
  std::printf("%s\n", answer.value("position", std::string()).c_str());
  return {};
}

Status run_status_command(const std::string& mountpoint, bool as_json) {
  if (mountpoint.empty()) return print_all_mounts(as_json);
  WALFS_ASSIGN(const json answer, ask(mountpoint, {{"command", "status"}}, kStatusTimeoutMs));
  if (as_json) {
    print_json(answer);
  } else {
    print_status(answer);
  }
  return {};
}

}  // namespace walfs
