// Which segments of the log are to be put together into longer ones, and which are to be thinned
// out. Pure.
//
// A busy writer uploads a segment in each sync interval. Put together in levels (those of half a
// minute, then of five minutes, then of an hour) they keep every point, but whoever opens or
// restores the replica needs few requests, and what follows closely upon each other is compressed
// together. Of what is older than a day only the last point of each hour stays: a level of its own,
// above all others.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "replicator/replica.h"
#include "replicator/time.h"

namespace walfs {

struct CompactionLevel {
  int64_t window_ns = 0;  // What came within one window, once that is over,
  size_t count_min = 0;   // is put together if it is so many segments.
};

struct CompactionPolicy {
  // Level 1 and up. Windows nest: each is a multiple of the one before.
  std::vector<CompactionLevel> levels = {
      {30 * kNsPerSecond, 8}, {300 * kNsPerSecond, 4}, {3600 * kNsPerSecond, 2}};
  uint64_t size_max = uint64_t{64} << 20;  // Of what is put together, as it is stored.
  // What is so large stays as it is: a request for it takes little beside its bytes, which would be
  // uploaded once more.
  uint64_t size_enough = uint64_t{2} << 20;
  int64_t grace_ns = 3600 * kNsPerSecond;  // A restore that has begun may still read what was.
  // Of what is so old the last point of each hour is enough; what came within one window becomes
  // one segment then.
  int64_t thin_after_ns = 24 * 3600 * kNsPerSecond;  // 0: never.
  int64_t thin_window_ns = 6 * 3600 * kNsPerSecond;
  int64_t hour_ns = 3600 * kNsPerSecond;
  unsigned thinned_level() const { return static_cast<unsigned>(levels.size()) + 1; }
};

// A segment, and when it came (steady clock, ns; below 0 before that began).
struct LogPiece {
  StoredObject segment;
  int64_t came_ns = 0;
  int64_t thin_from_ns = INT64_MIN;  // Not to be thinned out earlier, as the last one of several.
};

struct Compaction {
  unsigned level = 0;
  std::vector<LogPiece> pieces;  // They follow each other.
  PositionRange range() const {
    return {pieces.front().segment.range.first, pieces.back().segment.range.last};
  }
};

// The next compaction that is due at `now_ns`. `pieces` ascend, and none contains another. At a
// position of `borders` a segment has to end.
std::optional<Compaction> plan_compaction(const std::vector<LogPiece>& pieces,
                                          const std::set<Position>& borders,
                                          const CompactionPolicy& policy, int64_t now_ns);
// The next segments that are to be thinned out, likewise.
std::optional<Compaction> plan_thinning(const std::vector<LogPiece>& pieces,
                                        const std::set<Position>& borders,
                                        const CompactionPolicy& policy, int64_t now_ns);

}  // namespace walfs
