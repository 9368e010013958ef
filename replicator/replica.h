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
  unsigned level = 0;       // Of a segment.
  int64_t modified_ns = 0;  // By the store's clock; 0 if it is not known.
};

// The listing of a replica. Everything in it is a name; nothing was read yet but the epochs.
struct ReplicaListing {
  std::string volume;
  std::vector<Epoch> epochs;            // Ascending.
  std::vector<StoredObject> segments;   // Of all levels, ascending by first position.
  std::vector<StoredObject> snapshots;  // Ascending by range.last.
};

// kNothingThere when the store holds no replica.
Result<ReplicaListing> list_replica(Store& store);

// The segments that follow a snapshot without a gap, ascending: from behind snapshot.first as far
// as the log goes. Pure. Of those that lead on from a position the one that leads farthest is
// taken, and of those the one of the highest level; it may begin before that position. Where a
// later epoch builds on a position, the segments that an earlier writer added behind it do not
// count.
std::vector<StoredObject> follow_log(const ReplicaListing& replica, const PositionRange& snapshot);

// Whether the log in the store has every segment from behind `known`, which it has, up to `wanted`:
// two positions of one writer, whose epochs nobody else has come between. Lists only what lies
// between them.
Result<bool> log_leads(Store& store, Position known, Position wanted);

// Both answers about one writer's log with one listing: whether it leads to `wanted`, and whether
// it goes on behind `last`.
struct LogAhead {
  bool leads = false;
  bool goes_on = false;
};
Result<LogAhead> look_ahead(Store& store, Position known, Position wanted, Position last);

// Whether the store has points behind a position, of this or a later epoch.
Result<bool> log_goes_on(Store& store, Position position);

// What restores a point: a snapshot and the segments up to the point.
struct Route {
  StoredObject snapshot;
  std::vector<StoredObject> segments;
};

// Those of `segments` that no other one contains, ascending by first and by last position; of equal
// ones the one of the highest level. Pure.
std::vector<StoredObject> widest_segments(std::vector<StoredObject> segments);

// The routes to all points that can be restored, one for each snapshot that a gapless log leads
// away from, ascending. Pure.
std::vector<Route> find_routes(const ReplicaListing& replica);
// The same, and kNothingThere if there is none; the store is for the message.
Result<std::vector<Route>> usable_routes(const Store& store, const ReplicaListing& replica);

// The segments that a writer has added to the log and that no route reaches, because one before
// them is missing; ascending. What lies before the first route, before a fresh epoch's first
// snapshot, or behind the position from which a later writer went on does not count. Pure.
std::vector<StoredObject> find_stranded(const ReplicaListing& replica,
                                        const std::vector<Route>& routes);

// Reads a segment's index through the store, or with a function that reads the object.
Result<SegmentIndex> load_segment_index(Store& store, const StoredObject& segment);
Result<SegmentIndex> load_segment_index(const StoredObject& segment, const ReadObjectRange& read);
Result<Snapshot> load_snapshot(Store& store, const StoredObject& snapshot);
// The time of its state, without the rest of it.
Result<int64_t> load_snapshot_time(Store& store, const StoredObject& snapshot);
// The decoded bytes of what snapshots and segments refer to.
Result<Bytes> load_chunk(Store& store, const ChunkRef& chunk);
Result<Bytes> load_frame(Store& store, const StoredObject& segment,
                         const SegmentIndex::Frame& frame);

}  // namespace walfs
