// Puts points that follow each other together into one, which leads from the state before the first
// of them to that of the last (FORMAT.md, "Points", thinned). Pure.
//
// Each change sets something to a value, so the last one of each thing counts. What a file had and
// lost in between has to be said in so many words, as blocks of zeros: who applies the point may
// have it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "replicator/change.h"

namespace walfs {

// Where the bytes of a block lie: `size` of them, which may be more or fewer than what the file has
// of the block by now; all others are zeros.
struct BlockSource {
  uint32_t segment = 0;  // As it was given to add().
  uint64_t data_offset = 0;
  uint32_t size = 0;
};

struct MergedPoint {
  Point point;
  // Of each block of the point that is not zeros, in the order in which they stand there.
  std::vector<BlockSource> sources;
};

class PointMerger {
 public:
  // How many bytes the blocks of a merged point may have, those of zeros included; a point that has
  // more by itself stays as it is.
  explicit PointMerger(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Takes the next point, as it was read from the index of a segment. False: nothing was taken; it
  // needs a point of its own, take() the one before first.
  bool add(const Point& point, uint32_t segment);
  bool empty() const { return !last_; }
  // Whether the last point that was taken is partial: then take() must not be called.
  bool partial() const { return last_ && last_->partial; }
  int64_t time_ns() const { return last_ ? last_->time_ns : 0; }  // Of the last one.
  MergedPoint take();

 private:
  struct Block {
    uint64_t hash = kZeroBlockHash;
    BlockSource source;
  };
  struct Content {
    SetContent change;  // Without blocks.
    std::map<uint64_t, Block> blocks;
    uint64_t kept = 0;  // Blocks from here on were gone, or are new, since the first of the points.
  };

  // An upper bound of the bytes that all would have with the point.
  uint64_t bytes_with(const Point& point) const;
  void apply(const SetContent& change, uint32_t segment);
  void drop(FileId id);
  void take_content(Content&& content, MergedPoint& merged) const;

  const uint64_t bytes_max_;
  std::optional<Point> last_;  // Without changes.
  std::map<FileId, Attributes> files_;
  std::map<std::pair<FileId, std::string>, FileId> entries_;
  std::set<FileId> dropped_;
  std::map<FileId, Content> contents_;
};

}  // namespace walfs
