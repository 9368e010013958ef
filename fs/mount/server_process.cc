#include "fs/mount/server_process.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "fs/mount/channels.h"
#include "fs/mount/kept_descriptors.h"
#include "fs/mount/request_journal.h"

namespace walfs {
namespace {

constexpr int64_t kStartTimeoutMs = 300000;
constexpr int64_t kRestartPauseMinMs = 1;
constexpr int64_t kRestartPauseMaxMs = 2000;
constexpr int64_t kLivedMs = 10;  // Whoever dies earlier will perhaps do so again.
constexpr int64_t kWatchMs = 1000;
constexpr int64_t kHungMs = 10000;
constexpr int64_t kStuckMs = 60000;
constexpr int kNodesRoom = 8 << 20;

// The states of a process's threads, a letter each as in proc(5).
std::string thread_states(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR* directory = opendir(tasks.c_str());
  if (directory == nullptr) return "";
  std::string states;
  while (const dirent* entry = readdir(directory)) {
    std::ifstream file(tasks + "/" + entry->d_name + "/stat");
    std::string line;
    if (!std::getline(file, line)) continue;
    const size_t name_end = line.rfind(") ");
    if (name_end != std::string::npos) states += line[name_end + 2];
  }
  closedir(directory);
  return states;
}

// How long a server may go without an answer to a request that it has read or that is queued.
int64_t patience_ms(pid_t server, bool queued) {
  constexpr int64_t kForEver = INT64_MAX;
  const std::string states = thread_states(server);
  const auto any = [&states](char state) { return states.find(state) != std::string::npos; };
  if (any('D') || any('t')) return kForEver;  // It waits for the backing disk, or for a debugger.
  if (queued || any('T')) return kHungMs;
  return any('R') ? kForEver : kStuckMs;
}

}  // namespace

Status ServerProcess::open(const Inherited& inherited) {
  inherited_ = inherited;
  WALFS_ASSIGN(shared_, map_shared_state(inherited.state));
  WALFS_ASSIGN(nodes_, make_channel());
  // Requests must not wait for the keeper while it waits for an unmount.
  setsockopt(nodes_.second.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kNodesRoom, sizeof kNodesRoom);
  return {};
}

Status ServerProcess::adopt(const Inherited& inherited, pid_t server) {
  inherited_ = inherited;
  WALFS_ASSIGN(shared_, map_shared_state(inherited.state));
  pid_ = server;
  ready_ = true;
  started_ms_ = ready_ms_ = served_since_ms_ = now_ms();
  return {};
}

Status ServerProcess::spawn(pid_t flusher) {
  WALFS_ASSIGN(channel_, make_channel());
  const Inherited& in = inherited_;
  WALFS_ASSIGN(pid_, spawn_self("serve-internal", {},
                                {in.options, channel_.second.get(), in.flusher, in.device,
                                 in.backing, in.control, in.lock, in.state, nodes_.second.get()},
                                kKeptDescriptorBase));
  channel_.second.reset();  // Its end is seen when the server is gone.
  ready_ = false;
  started_ms_ = served_since_ms_ = now_ms();
  send({{"keeper_pid", getpid()}, {"flusher_pid", flusher}});
  return {};
}

Status ServerProcess::start(pid_t flusher) {
  WALFS_TRY(spawn(flusher));
  auto message = receive_message(channel(), kStartTimeoutMs);
  if (!message) return {};  // It died, and is about to be reaped.
  ready_ = message->value("event", "") == "ready";
  if (ready_) return {};
  return Error{static_cast<Errc>(message->value("code", static_cast<int>(Errc::kIo))),
               message->value("message", "the server process failed")};
}

std::optional<nlohmann::json> ServerProcess::receive() {
  auto message = receive_message(channel(), 0);
  if (!message) {
    channel_.first.reset();  // It is gone, and about to be reaped.
    return std::nullopt;
  }
  const std::string event = message->value("event", "");
  if (event.empty()) return message;
  if (event == "failed") spdlog::error("{}", message->value("message", ""));
  if (event != "ready") return std::nullopt;
  ready_ = true;
  ready_ms_ = now_ms();
  spdlog::info("the next server serves after {} ms", ready_ms_ - started_ms_);
  return std::nullopt;
}

void ServerProcess::send(const nlohmann::json& message) const {
  if (channel_.first.valid()) send_message(channel(), message);
}

void ServerProcess::died() {
  pid_ = -1;
  if (channel_.first.valid()) receive();
  channel_.first.reset();
  receive_descriptors(nodes_channel());
  const bool early = !ready_ || now_ms() - ready_ms_ < kLivedMs;
  pause_ms_ = early ? std::clamp(pause_ms_ * 2, kRestartPauseMinMs, kRestartPauseMaxMs) : 0;
  restart_at_ms_ = now_ms() + pause_ms_;
}

void ServerProcess::tick(pid_t flusher) {
  if (pid_ > 0) return watch();
  if (restart_at_ms_ == 0 || now_ms() < restart_at_ms_) return;
  restart_at_ms_ = 0;
  const Status started = spawn(flusher);
  if (started) return;
  spdlog::error("{}", started.error().message);
  restart_at_ms_ = now_ms() + kRestartPauseMaxMs;
}

int64_t ServerProcess::until_tick_ms() const {
  if (pid_ > 0) return std::max<int64_t>(0, watched_ms_ + kWatchMs - now_ms());
  return restart_at_ms_ == 0 ? -1 : std::max<int64_t>(0, restart_at_ms_ - now_ms());
}

void ServerProcess::kill_now() {
  if (pid_ > 0) kill(pid_, SIGKILL);
}

// A server that has requests and answers none hangs. It can have read the only one there is.
void ServerProcess::watch() {
  const int64_t now = now_ms();
  if (now < watched_ms_ + kWatchMs) return;
  watched_ms_ = now;
  if (!ready_) {
    if (now - started_ms_ < kStartTimeoutMs) return;
    spdlog::error("the server does not begin to serve; killing it");
    return kill_now();
  }
  pollfd device = {inherited_.device, POLLIN, 0};
  const bool queued = poll(&device, 1, 0) == 1 && (device.revents & POLLIN) != 0;
  const bool has_work = queued || RequestJournal::any_in_progress(*shared_);
  const uint64_t served = shared_->served;
  if (!has_work || served != served_ || RequestJournal::any_waits_for_store(*shared_)) {
    served_ = served;
    served_since_ms_ = now;
    return;
  }
  const int64_t since_ms = now - served_since_ms_;
  if (since_ms < kHungMs || since_ms < patience_ms(pid_, queued)) return;
  spdlog::error("the server has not served any request for {} s; killing it", since_ms / 1000);
  served_since_ms_ = now;
  kill_now();
}

}  // namespace walfs
