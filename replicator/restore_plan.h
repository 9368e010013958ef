// From a snapshot and the log behind it to the state at one point: which bytes of which objects
// make which file. Pure: decoded objects in, a plan out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/change.h"
#include "replicator/segment.h"
#include "replicator/snapshot.h"

namespace walfs {

// How many blocks a file of that size has; block_size 0: none.
inline uint64_t count_blocks(uint64_t size, uint32_t block_size) {
  return block_size == 0 ? 0 : (size + block_size - 1) / block_size;
}

// Where a block of the log lies.
struct BlockPlace {
  uint32_t segment = 0;  // Index into the route's segments.
  uint32_t frame = 0;
  uint32_t offset = 0;  // In the frame.
  uint32_t size = 0;
  uint64_t hash = kZeroBlockHash;  // kZeroBlockHash: a block of zeros, which lies nowhere.
};

struct PlannedFile {
  Attributes attributes;
  uint32_t block_size = 0;
  uint64_t size = 0;
  bool database = false;
  std::optional<uint64_t> checksum;
  std::vector<Extent> extents;       // Of the snapshot.
  uint64_t base_limit = UINT64_MAX;  // Blocks of the extents from here on do not count.
  std::unordered_map<uint64_t, BlockPlace> blocks;  // Of the log: they win over the extents.
};

struct RestorePlan {
  Position position;
  int64_t time_ns = 0;
  std::vector<ChunkRef> chunks;
  std::map<FileId, PlannedFile> files;
  std::map<FileId, std::map<std::string, FileId>> entries;  // Of each directory.
};

// Which point is wanted: the newest, one position, or the last one not after a time.
struct RestoreTarget {
  std::optional<Position> position;
  std::optional<int64_t> time_ns;
};

// Builds the plan point by point, in the order of the log. Partial points count once the next point
// that is not partial does. A point that stands for several (of a thinned segment) may stand for
// some before the snapshot's end, too: its changes say how everything is at its own position.
class PlanBuilder {
 public:
  PlanBuilder(Snapshot snapshot, RestoreTarget target);
  // Adds the next segment of the route. Does nothing once the target is reached.
  void add(const SegmentIndex& index);
  // True when later segments can't matter any more.
  bool complete() const { return complete_; }
  // kNothingThere if the target lies before the first point that the snapshot gives, is a partial
  // point, or was not in the segments.
  Result<RestorePlan> finish();

 private:
  struct Held {
    Point point;
    std::shared_ptr<const SegmentIndex> index;  // The frames alone.
    uint32_t segment = 0;
  };
  void enter_snapshot();
  void apply_blocks(const SetContent& change, const SegmentIndex& index, uint32_t segment);
  void apply(const Change& change, const SegmentIndex& index, uint32_t segment);
  void apply(const Point& point, const SegmentIndex& index, uint32_t segment);

  Snapshot snapshot_;
  RestoreTarget target_;
  RestorePlan plan_;
  uint32_t segment_ = 0;
  std::vector<Held> held_;  // Partial points behind the plan's.
  bool usable_ = false;     // The snapshot's end was passed.
  bool complete_ = false;
};

// The tree of a plan as relative paths, parents before children; hard links appear once for each
// name.
struct PlannedPath {
  std::string path;
  FileId id = kNoFile;
};
// kDamaged for entries that lead nowhere, cycles, or a directory with two names.
Result<std::vector<PlannedPath>> plan_paths(const RestorePlan& plan);

}  // namespace walfs
