#include "replicator/compactor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <utility>

#include "replicator/join.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kRoundBackoffMinMs = 1000;
constexpr int64_t kRoundBackoffMaxMs = 300'000;

}  // namespace

Compactor::Compactor(Store& store, std::string scratch, CompactionPolicy policy, Drive drive)
    : store_(store),
      scratch_(std::move(scratch)),
      policy_(std::move(policy)),
      outage_("compaction of " + store.describe()) {
  if (drive == Drive::kThread) thread_ = std::thread([this] { run(); });
}

Compactor::~Compactor() {
  stop();
}

void Compactor::add(PositionRange range, uint64_t size) {
  const std::scoped_lock lock(mutex_);
  new_.push_back({{range, size, 0}, steady_ns()});
  changed_.notify_all();
}

void Compactor::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Compactor::run() {
  std::minstd_rand random(static_cast<unsigned>(steady_ns()));
  int64_t backoff_ms = kRoundBackoffMinMs;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !new_.empty(); });
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
    const auto pause = milliseconds(1 + random() % static_cast<uint64_t>(backoff_ms));
    changed_.wait_for(lock, pause, [&] { return stopping_.load(); });
    backoff_ms = std::min(backoff_ms * 2, kRoundBackoffMaxMs);
  }
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
