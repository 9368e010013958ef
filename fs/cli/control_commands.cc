// sync and status: questions to a running mount.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/mount/backing.h"
#include "fs/mount/control.h"

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

std::string describe_size(uint64_t bytes) {
  if (bytes < 10240) return std::to_string(bytes) + " bytes";
  if (bytes < (uint64_t{10} << 20)) return std::to_string(bytes >> 10) + " KiB";
  return std::to_string(bytes >> 20) + " MiB";
}

void print_status(const json& status) {
  const auto text = [&](const char* name) { return status.value(name, std::string("?")); };
  std::printf("%s\n", text("mountpoint").c_str());
  std::printf("  source      %s\n", text("source").c_str());
  std::printf("  replica     %s\n", text("replica").c_str());
  std::printf("  processes   keeper %d, server %d, flusher %d (walfs %s)\n",
              status.value("keeper_pid", 0), status.value("server_pid", 0),
              status.value("flusher_pid", 0), text("version").c_str());
  std::printf("  position    %s, in the store %s\n", text("position").c_str(),
              text("uploaded_position").c_str());
  const json backlog = status.value("backlog", json::object());
  std::printf("  backlog     %s in %lu segments, lag %ld ms\n",
              describe_size(backlog.value("bytes", uint64_t{0})).c_str(),
              static_cast<unsigned long>(backlog.value("segments", uint64_t{0})),
              static_cast<long>(status.value("lag_ms", int64_t{0})));
  const json first = status.value("first_upload", json::object());
  if (!first.value("done", true)) {
    std::printf("  first upload: %s of %s\n",
                describe_size(first.value("bytes_done", uint64_t{0})).c_str(),
                describe_size(first.value("bytes_total", uint64_t{0})).c_str());
  }
  if (status.value("fenced", false)) std::printf("  FENCED: another writer has taken over\n");
  if (status.contains("last_error") && status["last_error"].is_string()) {
    std::printf("  last error  %s\n", status["last_error"].get<std::string>().c_str());
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
    std::printf("%s\n", mounts.dump(2, ' ', false, json::error_handler_t::replace).c_str());
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
    std::printf("%s\n", answer.dump(2, ' ', false, json::error_handler_t::replace).c_str());
  } else {
    print_status(answer);
  }
  return {};
}

}  // namespace walfs
