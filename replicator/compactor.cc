#include "replicator/compactor.h"

#include <algorithm>
#include <map>
#include <utility>

#include "replicator/join.h"
#include "replicator/thin_out.h"
#include "replicator/time.h"

namespace walfs {
namespace {

std::vector<StoredObject> segments_of(const Compaction& due) {
  std::vector<StoredObject> segments;
  for (const LogPiece& piece : due.pieces) segments.push_back(piece.segment);
  return segments;
}

}  // namespace

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
  WALFS_ASSIGN(const bool thinned, thin_out_next(now));
  if (thinned) return true;
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
  // How old the rest is the store's clock tells; what it has got last has just come.
  const int64_t now = steady_ns();
  int64_t store_now_ns = 0;
  for (const StoredObject& segment : replica.segments)
    store_now_ns = std::max(store_now_ns, segment.modified_ns);
  std::map<PositionRange, unsigned> widest;
  pieces_.clear();
  for (const StoredObject& segment : widest_segments(replica.segments)) {
    const auto came = own.find(segment.range);
    const int64_t age_ns = segment.modified_ns == 0 ? 0 : store_now_ns - segment.modified_ns;
    pieces_.push_back({segment, came == own.end() ? now - age_ns : came->second});
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
  const std::vector<StoredObject> segments = segments_of(*due);
  const auto joined = join_segments(store_, segments, due->level, scratch_, stopping_);
  if (!joined.ok()) {
    leave(segments, joined.error());
    return joined.error();
  }
  replace(*due, *joined);
  return true;
}

Result<bool> Compactor::thin_out_next(int64_t steady_now_ns) {
  const auto due = plan_thinning(pieces_, borders_, policy_, steady_now_ns);
  if (!due) return false;
  const std::vector<StoredObject> segments = segments_of(*due);
  const auto thinned = thin_out(
      store_, segments, {policy_.hour_ns, 4 * policy_.size_max, now_ns() - policy_.thin_after_ns},
      due->level, scratch_, stopping_);
  if (!thinned.ok()) {
    leave(segments, thinned.error());
    return thinned.error();
  }
  if (*thinned) {
    replace(*due, **thinned);
  } else {
    find_piece(segments.back())->thin_from_ns = steady_now_ns + policy_.thin_after_ns;
  }
  return true;
}

// Whoever restores or verifies is told more of what is damaged.
void Compactor::leave(const std::vector<StoredObject>& segments, const Error& error) {
  if (error.code != Errc::kDamaged && error.code != Errc::kNothingThere) return;
  for (const StoredObject& segment : segments) {
    borders_.insert(segment.range.last);
    find_piece(segment)->thin_from_ns = INT64_MAX;
  }
}

std::vector<LogPiece>::iterator Compactor::find_piece(const StoredObject& segment) {
  return std::find_if(pieces_.begin(), pieces_.end(), [&](const LogPiece& piece) {
    return piece.segment.range.first == segment.range.first;
  });
}

void Compactor::replace(const Compaction& due, const StoredObject& made) {
  const auto first = find_piece(due.pieces.front().segment);
  *first = {made, due.pieces.back().came_ns};
  pieces_.erase(first + 1, first + static_cast<std::ptrdiff_t>(due.pieces.size()));
  for (const LogPiece& piece : due.pieces) replaced_.push_back({piece.segment, steady_ns()});
}

Result<bool> Compactor::remove_replaced(int64_t now_ns) {
  if (replaced_.empty() || now_ns - replaced_.front().since_ns < policy_.grace_ns) return false;
  const StoredObject& segment = replaced_.front().segment;
  WALFS_TRY(store_.remove(segment_key(segment.range, segment.level)));
  replaced_.pop_front();
  return true;
}

}  // namespace walfs
