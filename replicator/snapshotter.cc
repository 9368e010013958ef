#include "replicator/snapshotter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "replicator/time.h"

namespace walfs {
namespace {

constexpr int64_t kMinute = 60'000 * kNsPerMs;
// A process that lives shorter needs no look at what was there before it; and one whose points
// cannot be restored yet (its first upload goes on) looks again after so long.
constexpr int64_t kLookAfter = 10 * kMinute;

uint64_t content_size(const Snapshot& snapshot) {
  uint64_t sum = 0;
  for (const ChunkRef& chunk : snapshot.chunks) sum += chunk.size;
  return sum;
}

}  // namespace

Snapshotter::Snapshotter(Store& store, std::string scratch, const std::atomic<bool>& stopping,
                         SnapshotPolicy policy)
    : store_(store), policy_(policy), writer_(store, std::move(scratch), stopping) {}

void Snapshotter::add(PositionRange range, uint64_t size) {
  const std::scoped_lock lock(mutex_);
  if (uploaded_.since_ns == 0) uploaded_.since_ns = steady_ns();
  uploaded_.size += size;
  uploaded_.last = std::max(uploaded_.last, range.last);
}

Result<bool> Snapshotter::step() {
  Uploaded uploaded;
  {
    const std::scoped_lock lock(mutex_);
    uploaded = uploaded_;
  }
  const int64_t now = steady_ns();
  if (uploaded.since_ns == 0 || now < not_before_ns_) return false;
  if (!newest_) {
    const int64_t look_after = std::min(kLookAfter, policy_.interval_ns);
    if (uploaded.size < policy_.log_size_min && now - uploaded.since_ns < look_after) return false;
    WALFS_TRY(look());
    if (!newest_) return false;
  }
  WALFS_ASSIGN(const bool due, is_due(uploaded));
  return due ? write(uploaded) : false;
}

// The age counts from now on by a clock that nobody sets.
Status Snapshotter::look() {
  WALFS_ASSIGN(const ReplicaListing listing, list_replica(store_));
  const std::vector<Route> routes = find_routes(listing);
  not_before_ns_ = steady_ns() + kLookAfter;
  if (routes.empty()) return {};
  const StoredObject& snapshot = routes.back().snapshot;
  WALFS_ASSIGN(const int64_t time_ns, load_snapshot_time(store_, snapshot));
  newest_ = snapshot;
  newest_ns_ = steady_ns() - std::max<int64_t>(0, now_ns() - time_ns);
  log_before_ = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (const StoredObject& segment : routes.back().segments) log_before_ += segment.size;
    log_before_ -= std::min(log_before_, uploaded_.size);
  }
  size_.reset();
  not_before_ns_ = 0;
  return {};
}

Result<bool> Snapshotter::is_due(const Uploaded& uploaded) {
  if (steady_ns() - newest_ns_ >= policy_.interval_ns) return true;
  const uint64_t log_size = log_before_ + uploaded.size;
  if (log_size < policy_.log_size_min) return false;
  if (!size_) {
    WALFS_ASSIGN(const Snapshot snapshot, load_snapshot(store_, *newest_));
    size_ = content_size(snapshot);
  }
  return log_size / policy_.log_per_content >= *size_;
}

Result<bool> Snapshotter::write(const Uploaded& uploaded) {
  WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store_, {}));
  // The first upload of this epoch has not ended, or another writer has come.
  if (routed.plan.position.epoch() != uploaded.last.epoch()) {
    not_before_ns_ = steady_ns() + kLookAfter;
    return false;
  }
  const int64_t begin_ns = steady_ns();
  if (routed.route.snapshot.range.last == routed.plan.position) {
    newest_ = routed.route.snapshot;  // The answer to it was lost.
  } else {
    WALFS_ASSIGN(newest_, writer_.write(routed));
  }
  newest_ns_ = begin_ns;
  log_before_ = 0;
  size_.reset();
  spdlog::info("a snapshot of position {} was written in {} ms", routed.plan.position.to_string(),
               (steady_ns() - begin_ns) / kNsPerMs);
  const std::scoped_lock lock(mutex_);
  uploaded_.size -= std::min(uploaded_.size, uploaded.size);
  if (uploaded_.last == uploaded.last) uploaded_.since_ns = 0;
  return true;
}

}  // namespace walfs
