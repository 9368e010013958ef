#include "replicator/compactor.h"

#include <algorithm>
#include <map>
#include <utility>

#include "replicator/join.h"
#include "replicator/time.h"

namespace walfs {

Compactor::Compactor(Store& store, std::string scratch, const std::atomic<bool>& stopping,
                     CompactionPolicy policy)
    : store_(store),
      scratch_(std::move(scratch)),
      stopping_(stopping),
      policy_(std::move(policy)) {}

void Compactor::add(PositionRange range, uint64_t size) {
  const std::scoped_lock lock(mutex_);
  new_.push_back({{range, size, 0}, steady_ns()});
}

void Compactor::forget_until(Position position) {
  const auto is_gone = [&](const StoredObject& segment) { return segment.range.last <= position; };
  std::erase_if(pieces_, [&](const LogPiece& piece) { return is_gone(piece.segment); });
  std::erase_if(replaced_, [&](const Replaced& replaced) { return is_gone(replaced.segment); });
}

Result<bool> Compactor::step() {
  take_new();
  if (!looked_) {
    // Before there is anything to do, what was there before need not be known.
    if (pieces_.size() < policy_.levels.front().count_min) return false;
    WALFS_TRY(look());
  }
  const int64_t now = steady_ns();
  WALFS_ASSIGN(const bool compacted, compact(now));
  if (compacted) return true;
  return remove_replaced(now);
}

void Compactor::take_new() {
  const std::scoped_lock lock(mutex_);
  for (const LogPiece& piece : std::exchange(new_, {})) {
    const bool known =
        !pieces_.empty() && piece.segment.range.last <= pieces_.back().segment.range.last;
    if (!known) pieces_.push_back(piece);
  }
}

// Lists the log, once. What another process has put together, and not removed, is found again.
Status Compactor::look() {
  WALFS_ASSIGN(const ReplicaListing replica, list_replica(store_));
  for (const Epoch& epoch : replica.epochs)
    if (!epoch.fresh) borders_.insert(epoch.parent);
  std::map<PositionRange, int64_t> own;
  for (const LogPiece& piece : pieces_) own[piece.segment.range] = piece.came_ns;
  std::map<PositionRange, unsigned> widest;
  pieces_.clear();
  for (const StoredObject& segment : widest_segments(replica.segments)) {
    const auto came = own.find(segment.range);
    pieces_.push_back({segment, came == own.end() ? 0 : came->second});
    widest[segment.range] = segment.level;
  }
  for (const StoredObject& segment : replica.segments) {
    const auto same = widest.find(segment.range);
    if (same == widest.end() || same->second != segment.level)
      replaced_.push_back({segment, steady_ns()});
  }
  looked_ = true;
  return {};
}

Result<bool> Compactor::compact(int64_t now_ns) {
  const auto due = plan_compaction(pieces_, borders_, policy_, now_ns);
  if (!due) return false;
  std::vector<StoredObject> segments;
  for (const LogPiece& piece : due->pieces) segments.push_back(piece.segment);
  const auto joined = join_segments(store_, segments, due->level, scratch_, stopping_);
  if (!joined.ok()) {
    // All the rest can be put together nevertheless. Whoever restores or verifies is told more.
    if (joined.error().code == Errc::kDamaged || joined.error().code == Errc::kNothingThere)
      for (const StoredObject& segment : segments) borders_.insert(segment.range.last);
    return joined.error();
  }
  const auto first = std::find_if(pieces_.begin(), pieces_.end(), [&](const LogPiece& piece) {
    return piece.segment.range.first == joined->range.first;
  });
  *first = {*joined, due->pieces.back().came_ns};
  pieces_.erase(first + 1, first + static_cast<std::ptrdiff_t>(segments.size()));
  for (const StoredObject& segment : segments) replaced_.push_back({segment, steady_ns()});
  return true;
}

Result<bool> Compactor::remove_replaced(int64_t now_ns) {
  if (replaced_.empty() || now_ns - replaced_.front().since_ns < policy_.grace_ns) return false;
  const StoredObject& segment = replaced_.front().segment;
  WALFS_TRY(store_.remove(segment_key(segment.range, segment.level)));
  replaced_.pop_front();
  return true;
}

}  // namespace walfs
