// What a new snapshot of a planned state keeps of the one before, and what it has to write anew.
// Pure.
//
// Content is looked at in slices of kChunkSizeMax bytes. A slice that the log has not touched keeps
// its place in the chunks that there are; any other is written into a new chunk, and so is what
// lies in a chunk of which less than half is still needed. Of a file without a checksum (it was
// changed before the writer knew all of it) all is written, to find out.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "replicator/restore_plan.h"
#include "replicator/snapshot.h"

namespace walfs {

// A slice that has to be written: the old extents, and the log's blocks over them. The rest is
// zeros.
struct Slice {
  size_t file = 0;      // Index into the snapshot's files.
  uint64_t offset = 0;  // In the file; a multiple of kChunkSizeMax.
  uint64_t size = 0;
  std::vector<Extent> base;                             // Within the slice; of the plan's chunks.
  std::vector<std::pair<uint64_t, BlockPlace>> blocks;  // By index.
  bool adds_to_checksum = false;                        // Of the file.
};

struct SnapshotDraft {
  Snapshot snapshot;  // Of the plan's position alone, without the slices' extents.
  std::vector<Slice> slices;
};

SnapshotDraft draft_snapshot(const RestorePlan& plan);

}  // namespace walfs
