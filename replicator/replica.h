// A replica as it is read: what is in the store, and which objects lead to a point.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/epoch.h"
#include "replicator/keys.h"
#include "replicator/segment.h"
#include "replicator/snapshot.h"
#include "replicator/stores/store.h"

namespace walfs {

struct StoredObject {
  PositionRange range;
  uint64_t size = 0;
};

// The listing of a replica. Everything in it is a name; nothing was read yet but the epochs.
struct ReplicaListing {
  std::string volume;
  std::vector<Epoch> epochs;            // Ascending.
  std::vector<StoredObject> segments;   // Ascending by first position.
  std::vector<StoredObject> snapshots;  // Ascending by range.last.
};

// kNothingThere when the store holds no replica.
Result<ReplicaListing> list_replica(Store& store);

// The segments that follow a snapshot without a gap, ascending: from behind snapshot.first as far
// as the log goes. Pure. Where a later epoch builds on a position, the segments that an earlier
// writer added behind it do not count.
std::vector<StoredObject> follow_log(const ReplicaListing& replica, const PositionRange& snapshot);

// What restores a point: a snapshot and the segments up to the point.
struct Route {
  StoredObject snapshot;
  std::vector<StoredObject> segments;
};

// The routes to all points that can be restored, one for each snapshot that a gapless log leads
// away from, ascending. Pure.
std::vector<Route> find_routes(const ReplicaListing& replica);

// Reads a segment's index through the store.
Result<SegmentIndex> load_segment_index(Store& store, const StoredObject& segment);
Result<Snapshot> load_snapshot(Store& store, const StoredObject& snapshot);

}  // namespace walfs
