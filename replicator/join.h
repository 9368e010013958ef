// Puts segments that follow each other together into one that has all their points.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/segment.h"
#include "replicator/stores/store.h"

namespace walfs {

// Reads the segments one after the other, writes the new one into a file without a name in the
// directory `scratch`, and puts it at the level. In memory are one segment's index, some MiB of
// data, and the index of the new one. If it is there already (of a process that has died) that one
// counts. kCancelled soon after `stopping` is set.
Result<StoredObject> join_segments(Store& store, const std::vector<StoredObject>& segments,
                                   unsigned level, const std::string& scratch,
                                   const std::atomic<bool>& stopping);

// Finishes the segment that was written to `file` and puts it at the level, as above.
Result<StoredObject> put_segment(Store& store, SegmentWriter& writer, int file, unsigned level);

}  // namespace walfs
