// Which segments of the log are to be put together into longer ones. Pure.
//
// A busy writer uploads a segment in each sync interval. Put together in levels (those of half a
// minute, then of five minutes, then of an hour) they keep every point, but whoever opens or
// restores the replica needs few requests, and what follows closely upon each other is compressed
// together.
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
  int64_t grace_ns = 3600 * kNsPerSecond;  // A restore that has begun may still read what was.
};

// A segment, and when it came (steady clock, ns); 0: before this process.
struct LogPiece {
  StoredObject segment;
  int64_t came_ns = 0;
};

struct Compaction {
  unsigned level = 0;
  std::vector<LogPiece> pieces;  // At least two, which follow each other.
  PositionRange range() const {
    return {pieces.front().segment.range.first, pieces.back().segment.range.last};
  }
};

// The next compaction that is due at `now_ns`. `pieces` ascend, and none contains another. At a
// position of `borders` a segment has to end.
std::optional<Compaction> plan_compaction(const std::vector<LogPiece>& pieces,
                                          const std::set<Position>& borders,
                                          const CompactionPolicy& policy, int64_t now_ns);

}  // namespace walfs
