// Decides when a snapshot is due, and has it written (snapshot_writer.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/snapshot_writer.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"

namespace walfs {

struct SnapshotPolicy {
  // After so long, if anything was uploaded since,
  int64_t interval_ns = 24 * 3600 * kNsPerSecond;
  // or after so many bytes of log, or so many times the content of the snapshot before, if that is
  // more: the log behind a snapshot bounds what a restore takes, and what a snapshot has to upload
  // is in the log, too.
  uint64_t log_size_min = uint64_t{1} << 30;
  uint64_t log_per_content = 4;
};

class Snapshotter {
 public:
  Snapshotter(Store& store, std::string scratch, const std::atomic<bool>& stopping,
              SnapshotPolicy policy);

  // The store has acknowledged the writer's next segment. From any thread; step() from one.
  void add(PositionRange range, uint64_t size);
  // True: a snapshot was written. Asks the store for nothing while none can be due.
  Result<bool> step();
  // The state of the newest snapshot; of none before step() has known of one.
  Position newest() const { return newest_ ? newest_->range.last : Position(); }

 private:
  struct Uploaded {
    Position last;
    uint64_t size = 0;     // Behind the newest snapshot.
    int64_t since_ns = 0;  // The first of them; steady clock.
  };
  Status look();
  Result<bool> is_due(const Uploaded& uploaded);
  Result<bool> write(const Uploaded& uploaded);

  Store& store_;
  const SnapshotPolicy policy_;
  SnapshotWriter writer_;

  std::mutex mutex_;
  Uploaded uploaded_;  // Under mutex_.

  // Of the newest snapshot; empty before the first look.
  std::optional<StoredObject> newest_;
  int64_t newest_ns_ = 0;         // When it was made; steady clock.
  uint64_t log_before_ = 0;       // Bytes behind it that an earlier process has uploaded.
  std::optional<uint64_t> size_;  // Of its content.
  int64_t not_before_ns_ = 0;     // When to try again; steady clock.
};

}  // namespace walfs
