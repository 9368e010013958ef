#include "replicator/retention.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "replicator/stores/list_objects.h"
#include "replicator/time.h"

namespace walfs {
namespace {

// The newest time that the listing tells.
int64_t newest_time(const ReplicaListing& listing) {
  int64_t newest = 0;
  for (const StoredObject& segment : listing.segments)
    newest = std::max(newest, segment.modified_ns);
  for (const StoredObject& snapshot : listing.snapshots)
    newest = std::max(newest, snapshot.modified_ns);
  return newest;
}

Position end_of(const Route& route) {
  return route.segments.empty() ? route.snapshot.range.last : route.segments.back().range.last;
}

}  // namespace

std::optional<size_t> oldest_needed(const std::vector<TimedSnapshot>& snapshots, int64_t now_ns,
                                    int64_t store_now_ns, const RetentionPolicy& policy) {
  if (policy.keep_ns == 0 || snapshots.size() < policy.snapshots_min) return std::nullopt;
  for (size_t i = snapshots.size() - policy.snapshots_min + 1; i-- > 0;) {
    const TimedSnapshot& snapshot = snapshots[i];
    const bool old = now_ns - snapshot.time_ns >= policy.keep_ns + policy.grace_ns;
    const bool told = store_now_ns != 0 && snapshot.object.modified_ns != 0;
    const bool old_there = !told || store_now_ns - snapshot.object.modified_ns >= policy.keep_ns;
    if (old && old_there) return i;
  }
  return std::nullopt;
}

Retention::Retention(Store& store, const std::atomic<bool>& stopping, RetentionPolicy policy)
    : store_(store), stopping_(stopping), policy_(policy) {}

void Retention::look_soon(uint64_t epoch) {
  epoch_ = epoch;
  wanted_ = true;
}

Result<bool> Retention::step() {
  constexpr uint64_t kBetweenLooks = 64;
  if (wanted_) {
    superfluous_.clear();
    removed_ = 0;
    WALFS_TRY(look());
    wanted_ = false;
  }
  if (superfluous_.empty() || stopping_) return false;
  if (removed_ % kBetweenLooks == 0) {
    WALFS_ASSIGN(const bool replaced, is_replaced());
    if (replaced) superfluous_.clear();
    if (replaced) return false;
  }
  WALFS_TRY(store_.remove(superfluous_.front()));
  superfluous_.pop_front();
  ++removed_;
  if (superfluous_.empty())
    spdlog::info("{} objects that nothing needs any more were removed from {}", removed_,
                 store_.describe());
  return true;
}

// Epochs have no gaps. Who has taken over decides what is needed.
Result<bool> Retention::is_replaced() const {
  const auto next = store_.head(epoch_key(epoch_ + 1));
  if (next.ok()) return true;
  if (next.error().code == Errc::kNothingThere) return false;
  return next.error();
}

// Those that lead to the newest point. What a writer that was replaced has made in its last moments
// leads nowhere.
Result<std::vector<TimedSnapshot>> Retention::usable_snapshots(const ReplicaListing& listing) {
  std::vector<TimedSnapshot> snapshots;
  std::map<PositionRange, int64_t> times;
  const std::vector<Route> routes = find_routes(listing);
  for (const Route& route : routes) {
    if (end_of(route) != end_of(routes.back())) continue;
    const auto known = times_.find(route.snapshot.range);
    int64_t time_ns = known == times_.end() ? 0 : known->second;
    if (known == times_.end()) {
      WALFS_ASSIGN(time_ns, load_snapshot_time(store_, route.snapshot));
    }
    times[route.snapshot.range] = time_ns;
    snapshots.push_back({route.snapshot, time_ns});
  }
  times_ = std::move(times);
  return snapshots;
}

Status Retention::look() {
  WALFS_ASSIGN(const ReplicaListing listing, list_replica(store_));
  WALFS_ASSIGN(const std::vector<TimedSnapshot> snapshots, usable_snapshots(listing));
  // Until an epoch has a snapshot of its own, its chunks belong to none.
  const bool ours = !snapshots.empty() && listing.epochs.back().number == epoch_ &&
                    snapshots.back().object.range.last.epoch() == epoch_;
  if (!ours) return {};
  const int64_t store_now_ns = newest_time(listing);
  const auto oldest = oldest_needed(snapshots, now_ns(), store_now_ns, policy_);
  if (oldest) begin_ = snapshots[*oldest].object.range.first;
  std::vector<StoredObject> kept;
  for (const StoredObject& snapshot : listing.snapshots) {
    if (oldest && snapshot.range.last < snapshots[*oldest].object.range.last) {
      superfluous_.push_back(snapshot_key(snapshot.range));
    } else {
      kept.push_back(snapshot);
    }
  }
  for (const StoredObject& segment : listing.segments) {
    if (segment.range.last <= begin_)
      superfluous_.push_back(segment_key(segment.range, segment.level));
  }
  return look_at_chunks(kept, store_now_ns);
}

// A snapshot that cannot be read may need any chunk.
Status Retention::look_at_chunks(const std::vector<StoredObject>& kept, int64_t store_now_ns) {
  std::unordered_set<std::string> needed;
  for (const StoredObject& stored : kept) {
    if (stopping_) return {};
    WALFS_ASSIGN(const Snapshot snapshot, load_snapshot(store_, stored));
    for (const ChunkRef& chunk : snapshot.chunks) needed.insert(chunk_key(chunk.digest));
  }
  return for_each_object(store_, std::string(kChunkPrefix), "", [&](const ObjectInfo& object) {
    const bool old =
        object.modified_ns != 0 && store_now_ns - object.modified_ns >= policy_.chunk_grace_ns;
    if (old && !needed.contains(object.key)) superfluous_.push_back(object.key);
    return !stopping_;
  });
}

}  // namespace walfs
