#include "replicator/upkeep.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "replicator/time.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kRoundBackoffMinMs = 1000;
constexpr int64_t kRoundBackoffMaxMs = 300'000;

}  // namespace

Upkeep::Upkeep(Store& store, std::string scratch, UpkeepPolicy policy, Drive drive)
    : compactor_(store, scratch, stopping_, std::move(policy.compaction)),
      snapshotter_(store, std::move(scratch), stopping_, policy.snapshots),
      retention_(store, stopping_, policy.retention),
      outage_("upkeep of " + store.describe()) {
  if (drive == Drive::kThread) thread_ = std::thread([this] { run(); });
}

Upkeep::~Upkeep() {
  stop();
}

void Upkeep::add(PositionRange range, uint64_t size) {
  compactor_.add(range, size);
  snapshotter_.add(range, size);
  const std::scoped_lock lock(mutex_);
  has_new_ = true;
  changed_.notify_all();
}

void Upkeep::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Upkeep::run() {
  std::minstd_rand random(static_cast<unsigned>(steady_ns()));
  int64_t backoff_ms = kRoundBackoffMinMs;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || has_new_; });
      has_new_ = false;
    }
    Result<bool> done = true;
    while (!stopping_ && done.ok() && *done) done = step();
    if (stopping_) return;
    const auto line =
        done.ok() ? outage_.succeeded("", steady_ns()) : outage_.failed(done.error(), steady_ns());
    if (line) spdlog::log(done.ok() ? spdlog::level::info : spdlog::level::warn, "{}", *line);
    if (done.ok()) {
      backoff_ms = kRoundBackoffMinMs;
      continue;
    }
    std::unique_lock lock(mutex_);
    has_new_ = true;  // To be tried again.
    const auto pause = milliseconds(1 + random() % static_cast<uint64_t>(backoff_ms));
    changed_.wait_for(lock, pause, [&] { return stopping_.load(); });
    backoff_ms = std::min(backoff_ms * 2, kRoundBackoffMaxMs);
  }
}

// A snapshot makes older objects superfluous.
Result<bool> Upkeep::step() {
  WALFS_ASSIGN(const bool compacted, compactor_.step());
  if (compacted) return true;
  WALFS_ASSIGN(const bool has_snapshot, snapshotter_.step());
  if (has_snapshot) {
    retention_.look_soon(snapshotter_.newest().epoch());
    return true;
  }
  WALFS_ASSIGN(const bool removed, retention_.step());
  if (removed) compactor_.forget_until(retention_.begin());
  return removed;
}

}  // namespace walfs
