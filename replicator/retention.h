// Which objects of a replica nobody needs any more, and their removal.
//
// The oldest snapshot that is kept is one behind which the log has every point of the retention's
// time; what lies before it goes: first the snapshots, then the segments, then the chunks that no
// snapshot refers to. Wherever that ends early, every point that is kept can be restored, and what
// is left is found the next time.
//
// A clock that was set does not make history old: the store's clock has to agree where it is
// another one, and the newest few snapshots are kept whatever the clocks say.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"

namespace walfs {

struct RetentionPolicy {
  static constexpr int64_t kHour = 3600 * kNsPerSecond;
  int64_t keep_ns = 7 * 24 * kHour;  // 0: everything stays.
  int64_t grace_ns = kHour;          // A restore that has begun may still read what was.
  // A chunk without a snapshot may be of one that is still to be written, if it is younger.
  int64_t chunk_grace_ns = 24 * kHour;
  size_t snapshots_min = 3;
};

// A snapshot that leads to points, with the time of its state.
struct TimedSnapshot {
  StoredObject object;
  int64_t time_ns = 0;
};

// The newest snapshot that makes all before it superfluous, as an index; nothing if none is old
// enough. `snapshots` ascend. `store_now_ns` is the newest time in the store's listing (0: not
// known). Pure.
std::optional<size_t> oldest_needed(const std::vector<TimedSnapshot>& snapshots, int64_t now_ns,
                                    int64_t store_now_ns, const RetentionPolicy& policy);

class Retention {
 public:
  // What is under way is given up soon after `stopping` is set.
  Retention(Store& store, const std::atomic<bool>& stopping, RetentionPolicy policy);

  // The writer of this epoch has put a snapshot: others may have become superfluous. From the
  // thread that calls step().
  void look_soon(uint64_t epoch);
  // Removes the next object that nobody needs. False if there is none.
  Result<bool> step();
  // The log up to there was removed, or is being removed.
  Position begin() const { return begin_; }

 private:
  Status look();
  Result<std::vector<TimedSnapshot>> usable_snapshots(const ReplicaListing& listing);
  Status look_at_chunks(const std::vector<StoredObject>& kept, int64_t store_now_ns);
  Result<bool> is_replaced() const;

  Store& store_;
  const std::atomic<bool>& stopping_;
  const RetentionPolicy policy_;
  uint64_t epoch_ = 0;
  bool wanted_ = false;
  Position begin_;
  std::map<PositionRange, int64_t> times_;  // Of snapshots.
  std::deque<std::string> superfluous_;     // Keys, in the order in which they go.
  uint64_t removed_ = 0;
};

}  // namespace walfs
