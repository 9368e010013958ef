#include "replicator/replica.h"

#include <algorithm>

#include "replicator/stores/list_objects.h"

namespace walfs {
namespace {

constexpr uint64_t kSnapshotSizeMax = uint64_t{2} << 30;

// Of keys greater than `after`, ascending by first position.
Result<std::vector<StoredObject>> list_segments(Store& store, std::string_view prefix,
                                                const std::string& after = "") {
  std::vector<StoredObject> segments;
  WALFS_TRY(for_each_object(store, std::string(prefix), after, [&](const ObjectInfo& object) {
    if (const auto key = parse_segment_key(object.key))
      segments.push_back({key->range, object.size, key->level, object.modified_ns});
    return true;
  }));
  std::stable_sort(segments.begin(), segments.end(),
                   [](const auto& a, const auto& b) { return a.range.first < b.range.first; });
  return segments;
}

// Ascending by last position.
Result<std::vector<StoredObject>> list_snapshots(Store& store) {
  std::vector<StoredObject> snapshots;
  WALFS_TRY(for_each_object(store, std::string(kSnapshotPrefix), "", [&](const ObjectInfo& object) {
    if (const auto range = parse_snapshot_key(object.key))
      snapshots.push_back({*range, object.size, 0, object.modified_ns});
    return true;
  }));
  std::stable_sort(snapshots.begin(), snapshots.end(),
                   [](const auto& a, const auto& b) { return a.range.last < b.range.last; });
  return snapshots;
}

}  // namespace

Result<ReplicaListing> list_replica(Store& store) {
  ReplicaListing replica;
  WALFS_ASSIGN(replica.volume, read_volume(store));
  WALFS_ASSIGN(replica.epochs, read_epochs(store));
  WALFS_ASSIGN(replica.segments, list_segments(store, kLogPrefix));
  WALFS_ASSIGN(replica.snapshots, list_snapshots(store));
  return replica;
}

namespace {

// Those of level 0 that begin behind the position, and all that compaction has made.
Result<std::vector<StoredObject>> list_behind(Store& store, Position position) {
  return list_segments(store, kLogPrefix, segment_key({position.next(), Position()}));
}

// Nobody else has come between the epochs of the two, so that the sequence tells.
bool lead(const std::vector<StoredObject>& segments, Position known, Position wanted) {
  uint64_t reached = known.sequence();
  for (const StoredObject& segment : segments) {
    if (segment.range.last.sequence() <= reached || segment.range.last < known) continue;
    if (segment.range.first.sequence() > reached + 1) break;
    reached = segment.range.last.sequence();
  }
  return reached >= wanted.sequence();
}

bool any_behind(const std::vector<StoredObject>& segments, Position position) {
  return std::any_of(segments.begin(), segments.end(),
                     [&](const StoredObject& segment) { return segment.range.last > position; });
}

}  // namespace

Result<bool> log_leads(Store& store, Position known, Position wanted) {
  if (known.sequence() >= wanted.sequence()) return true;
  WALFS_ASSIGN(const auto segments, list_behind(store, known));
  return lead(segments, known, wanted);
}

Result<LogAhead> look_ahead(Store& store, Position known, Position wanted, Position last) {
  const bool is_there = known.sequence() >= wanted.sequence();
  WALFS_ASSIGN(const auto segments, list_behind(store, is_there ? last : std::min(known, last)));
  return LogAhead{is_there || lead(segments, known, wanted), any_behind(segments, last)};
}

Result<bool> log_goes_on(Store& store, Position position) {
  WALFS_ASSIGN(const auto segments, list_behind(store, position));
  return any_behind(segments, position);
}

Result<SegmentIndex> load_segment_index(Store& store, const StoredObject& segment) {
  const std::string key = segment_key(segment.range, segment.level);
  return load_segment_index(segment, [&](uint64_t offset, uint64_t size) {
    return store.get_range(key, {offset, size});
  });
}

Result<SegmentIndex> load_segment_index(const StoredObject& segment, const ReadObjectRange& read) {
  const std::string key = segment_key(segment.range, segment.level);
  WALFS_ASSIGN(SegmentIndex index, read_segment_index(key, segment.size, read));
  if (index.first != segment.range.first || index.last != segment.range.last) {
    return Error{Errc::kDamaged, key + " is damaged: it holds other positions than its name says"};
  }
  return index;
}

Result<Snapshot> load_snapshot(Store& store, const StoredObject& stored) {
  const std::string key = snapshot_key(stored.range);
  WALFS_ASSIGN(const Bytes object, store.get(key, kSnapshotSizeMax));
  WALFS_ASSIGN(Snapshot snapshot, decode_snapshot(key, object));
  if (snapshot.range != stored.range) {
    return Error{Errc::kDamaged, key + " is damaged: it holds other positions than its name says"};
  }
  return snapshot;
}

Result<int64_t> load_snapshot_time(Store& store, const StoredObject& stored) {
  const std::string key = snapshot_key(stored.range);
  WALFS_ASSIGN(const Bytes header, store.get_range(key, {0, kSnapshotHeaderSize}));
  return decode_snapshot_time(key, header);
}

Result<Bytes> load_chunk(Store& store, const ChunkRef& chunk) {
  const std::string key = chunk_key(chunk.digest);
  WALFS_ASSIGN(const Bytes object, store.get(key, kChunkSizeMax * 2));
  return decode_chunk(key, chunk, object);
}

Result<Bytes> load_frame(Store& store, const StoredObject& segment,
                         const SegmentIndex::Frame& frame) {
  const std::string key = segment_key(segment.range, segment.level);
  WALFS_ASSIGN(const Bytes stored, store.get_range(key, {frame.offset, frame.stored_size}));
  return decode_frame(key, frame, stored);
}

}  // namespace walfs
