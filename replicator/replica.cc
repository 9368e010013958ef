#include "replicator/replica.h"

#include <algorithm>
#include <set>

namespace walfs {
namespace {

constexpr size_t kListLimit = 1000;
constexpr uint64_t kSnapshotSizeMax = uint64_t{2} << 30;

Result<std::vector<StoredObject>> list_ranges(
    Store& store, std::string_view prefix,
    std::optional<PositionRange> (*parse)(std::string_view)) {
  std::vector<StoredObject> found;
  std::string after;
  while (true) {
    WALFS_ASSIGN(const auto objects, store.list(std::string(prefix), after, kListLimit));
    for (const ObjectInfo& object : objects) {
      if (const auto range = parse(object.key)) found.push_back({*range, object.size});
    }
    if (objects.size() < kListLimit) return found;
    after = objects.back().key;
  }
}

const Epoch* find_epoch(const ReplicaListing& replica, uint64_t number) {
  for (const Epoch& epoch : replica.epochs) {
    if (epoch.number == number) return &epoch;
  }
  return nullptr;
}

}  // namespace

Result<ReplicaListing> list_replica(Store& store) {
  ReplicaListing replica;
  WALFS_ASSIGN(replica.volume, read_volume(store));
  WALFS_ASSIGN(replica.epochs, read_epochs(store));
  WALFS_ASSIGN(replica.segments, list_ranges(store, kLogPrefix, parse_segment_key));
  WALFS_ASSIGN(replica.snapshots, list_ranges(store, kSnapshotPrefix, parse_snapshot_key));
  std::sort(replica.snapshots.begin(), replica.snapshots.end(),
            [](const auto& a, const auto& b) { return a.range.last < b.range.last; });
  return replica;
}

std::vector<StoredObject> follow_log(const ReplicaListing& replica, const PositionRange& snapshot) {
  std::vector<StoredObject> chain;
  Position at = snapshot.first;
  while (true) {
    const StoredObject* next = nullptr;
    for (const Epoch& epoch : replica.epochs) {
      if (epoch.number < at.epoch() ||
          (epoch.number > at.epoch() && (epoch.fresh || epoch.parent != at)))
        continue;
      const Position first = Position::of(epoch.number, at.sequence() + 1);
      const auto found = std::lower_bound(replica.segments.begin(), replica.segments.end(), first,
                                          [](const StoredObject& segment, Position position) {
                                            return segment.range.first < position;
                                          });
      // The newest epoch that has something here wins: it has taken over from the others.
      if (found != replica.segments.end() && found->range.first == first &&
          found->range.last.epoch() == epoch.number) {
        next = &*found;
      }
    }
    if (next == nullptr) return chain;
    chain.push_back(*next);
    at = next->range.last;
  }
}

Result<bool> log_leads(Store& store, Position known, Position wanted) {
  std::string after = segment_key({known.next(), Position()});
  while (known.sequence() < wanted.sequence()) {
    WALFS_ASSIGN(const auto objects, store.list(std::string(kLogPrefix), after, kListLimit));
    for (const ObjectInfo& object : objects) {
      const auto range = parse_segment_key(object.key);
      if (!range || range->first.sequence() <= known.sequence()) continue;
      if (range->first.sequence() != known.sequence() + 1)
        return known.sequence() >= wanted.sequence();
      known = range->last;
    }
    if (objects.size() < kListLimit) break;
    after = objects.back().key;
  }
  return known.sequence() >= wanted.sequence();
}

Result<bool> log_goes_on(Store& store, Position position) {
  const std::string after = segment_key({position.next(), Position()});
  WALFS_ASSIGN(const auto objects, store.list(std::string(kLogPrefix), after, kListLimit));
  return std::any_of(objects.begin(), objects.end(), [&](const ObjectInfo& object) {
    const auto range = parse_segment_key(object.key);
    return range && range->last > position;
  });
}

std::vector<Route> find_routes(const ReplicaListing& replica) {
  std::vector<Route> routes;
  for (const StoredObject& snapshot : replica.snapshots) {
    if (find_epoch(replica, snapshot.range.first.epoch()) == nullptr) continue;
    Route route{snapshot, follow_log(replica, snapshot.range)};
    // The log must reach the point from which on the snapshot can be used.
    if (route.segments.empty() || route.segments.back().range.last < snapshot.range.last) continue;
    routes.push_back(std::move(route));
  }
  return routes;
}

std::vector<StoredObject> find_stranded(const ReplicaListing& replica,
                                        const std::vector<Route>& routes) {
  std::set<Position> reached;
  for (const Route& route : routes)
    for (const StoredObject& segment : route.segments) reached.insert(segment.range.first);
  const auto is_replaced = [&](const StoredObject& segment) {
    return std::any_of(replica.epochs.begin(), replica.epochs.end(), [&](const Epoch& epoch) {
      return epoch.number > segment.range.last.epoch() && epoch.parent < segment.range.last;
    });
  };
  const auto has_point = [&](Position position) {
    return std::any_of(
        replica.segments.begin(), replica.segments.end(), [&](const StoredObject& segment) {
          return segment.range.last >= position && segment.range.last.epoch() == position.epoch();
        });
  };
  // What is logged beside a first upload counts once that has ended.
  const auto can_count = [&](const StoredObject& segment, const Epoch& epoch) {
    return !epoch.fresh || std::any_of(replica.snapshots.begin(), replica.snapshots.end(),
                                       [&](const StoredObject& snapshot) {
                                         return snapshot.range.first.epoch() == epoch.number &&
                                                snapshot.range.first < segment.range.first &&
                                                has_point(snapshot.range.last);
                                       });
  };
  std::vector<StoredObject> stranded;
  for (const StoredObject& segment : replica.segments) {
    if (reached.empty() || segment.range.first < *reached.begin()) continue;
    const Epoch* const epoch = find_epoch(replica, segment.range.first.epoch());
    if (epoch == nullptr || !can_count(segment, *epoch)) continue;
    if (!reached.contains(segment.range.first) && !is_replaced(segment))
      stranded.push_back(segment);
  }
  return stranded;
}

Result<SegmentIndex> load_segment_index(Store& store, const StoredObject& segment) {
  const std::string key = segment_key(segment.range);
  WALFS_ASSIGN(SegmentIndex index,
               read_segment_index(key, segment.size, [&](uint64_t offset, uint64_t size) {
                 return store.get_range(key, {offset, size});
               }));
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

}  // namespace walfs
