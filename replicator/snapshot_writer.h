// Writes the state at the newest point of a replica as a snapshot, out of what the replica has: the
// snapshot before and the log behind it. The directory itself is not looked at, so that nobody who
// works there notices; what comes out is the state at exactly one point (I9).
#pragma once

#include <atomic>
#include <set>
#include <string>

#include "replicator/base/result.h"
#include "replicator/restore.h"
#include "replicator/snapshot_draft.h"
#include "replicator/stores/store.h"

namespace walfs {

class SnapshotWriter {
 public:
  // `scratch` is a directory for files without names, of up to 64 MiB each, and for a mark that
  // stays while a snapshot is not complete: then what an earlier call has put, of this process or
  // one that has died, is looked for before it is put again.
  SnapshotWriter(Store& store, std::string scratch, const std::atomic<bool>& stopping)
      : store_(store), scratch_(std::move(scratch)), stopping_(stopping) {}

  // In memory are the plan (whatever the log has changed since the snapshot before) and some MiB.
  // kCancelled soon after `stopping` was set; kConflict if this snapshot is there already.
  Result<StoredObject> write(const RoutedPlan& routed);

 private:
  struct Batch;
  Status write_batch(const RoutedPlan& routed, const Slice* begin, const Slice* end);
  Status fetch(const RoutedPlan& routed, const Batch& batch, int scratch);
  Status pack(const Batch& batch, int scratch);
  void add_to_checksum(const Slice& slice, ByteView content);
  Status flush_pack();
  Status put(const ChunkRef& chunk);
  bool was_put(const ChunkRef& chunk);
  Status check_stopping() const;

  Store& store_;
  const std::string scratch_;
  const std::atomic<bool>& stopping_;
  std::set<Sha256Digest> stored_;
  unsigned ask_ = 0;  // So many chunks more that are not there, and the store is asked for none.

  // Of the snapshot that is being written.
  Snapshot snapshot_;
  struct Packed {
    size_t file = 0;
    Extent extent;  // Without the chunk.
  };
  Bytes pack_;
  std::vector<Packed> packed_;
};

}  // namespace walfs
