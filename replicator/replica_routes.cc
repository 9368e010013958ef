// Which objects lead to which points. Pure.
#include <algorithm>
#include <map>

#include "replicator/replica.h"

namespace walfs {
namespace {

const Epoch* find_epoch(const ReplicaListing& replica, uint64_t number) {
  for (const Epoch& epoch : replica.epochs) {
    if (epoch.number == number) return &epoch;
  }
  return nullptr;
}

// The one that leads farthest of those with the position; null if there is none.
const StoredObject* find_widest(const std::vector<StoredObject>& widest, Position position) {
  const auto behind = std::upper_bound(
      widest.begin(), widest.end(), position,
      [](Position at, const StoredObject& segment) { return at < segment.range.first; });
  if (behind == widest.begin()) return nullptr;
  const StoredObject& found = *std::prev(behind);
  return position <= found.range.last ? &found : nullptr;
}

std::vector<StoredObject> follow(const ReplicaListing& replica,
                                 const std::vector<StoredObject>& widest, Position at) {
  std::vector<StoredObject> chain;
  while (true) {
    const StoredObject* next = nullptr;
    for (const Epoch& epoch : replica.epochs) {
      if (epoch.number < at.epoch() ||
          (epoch.number > at.epoch() && (epoch.fresh || epoch.parent != at)))
        continue;
      // The newest epoch that has something here wins: it has taken over from the others.
      if (const auto* found = find_widest(widest, Position::of(epoch.number, at.sequence() + 1)))
        next = found;
    }
    if (next == nullptr) return chain;
    chain.push_back(*next);
    at = next->range.last;
  }
}

}  // namespace

std::vector<StoredObject> widest_segments(std::vector<StoredObject> segments) {
  std::erase_if(segments, [](const StoredObject& segment) {
    return segment.range.first.epoch() != segment.range.last.epoch();
  });
  std::sort(segments.begin(), segments.end(), [](const auto& a, const auto& b) {
    if (a.range.first != b.range.first) return a.range.first < b.range.first;
    return a.range.last != b.range.last ? a.range.last > b.range.last : a.level > b.level;
  });
  Position reached;
  std::erase_if(segments, [&](const StoredObject& segment) {
    if (segment.range.last <= reached) return true;
    reached = segment.range.last;
    return false;
  });
  return segments;
}

std::vector<StoredObject> follow_log(const ReplicaListing& replica, const PositionRange& snapshot) {
  return follow(replica, widest_segments(replica.segments), snapshot.first);
}

namespace {

// A later writer went on from before it: nothing leads from there to what came then.
bool is_replaced(const ReplicaListing& replica, const StoredObject& snapshot) {
  return std::any_of(replica.epochs.begin(), replica.epochs.end(), [&](const Epoch& epoch) {
    return epoch.number > snapshot.range.last.epoch() && epoch.parent < snapshot.range.last;
  });
}

}  // namespace

std::vector<Route> find_routes(const ReplicaListing& replica) {
  const std::vector<StoredObject> widest = widest_segments(replica.segments);
  std::vector<Route> routes;
  for (const StoredObject& snapshot : replica.snapshots) {
    if (find_epoch(replica, snapshot.range.first.epoch()) == nullptr) continue;
    if (is_replaced(replica, snapshot)) continue;
    Route route{snapshot, follow(replica, widest, snapshot.range.first)};
    // The log must reach the point from which on the snapshot can be used.
    const Position reached =
        route.segments.empty() ? snapshot.range.first : route.segments.back().range.last;
    if (reached >= snapshot.range.last) routes.push_back(std::move(route));
  }
  return routes;
}

Result<std::vector<Route>> usable_routes(const Store& store, const ReplicaListing& replica) {
  std::vector<Route> routes = find_routes(replica);
  if (routes.empty()) {
    return Error{Errc::kNothingThere, "the replica at " + store.describe() +
                                          " is not complete yet: its first upload has not ended"};
  }
  return routes;
}

std::vector<StoredObject> find_stranded(const ReplicaListing& replica,
                                        const std::vector<Route>& routes) {
  std::map<Position, Position> reached;  // Segments of routes: where they begin and end.
  for (const Route& route : routes)
    for (const StoredObject& segment : route.segments)
      reached[segment.range.first] = segment.range.last;
  // By what it holds, in this or in a longer segment.
  const auto is_reached = [&](const StoredObject& segment) {
    const auto behind = reached.upper_bound(segment.range.first);
    return behind != reached.begin() && segment.range.last <= std::prev(behind)->second;
  };
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
    if (reached.empty() || segment.range.first < reached.begin()->first) continue;
    const Epoch* const epoch = find_epoch(replica, segment.range.first.epoch());
    if (epoch == nullptr || !can_count(segment, *epoch)) continue;
    if (!is_reached(segment) && !is_replaced(segment)) stranded.push_back(segment);
  }
  return stranded;
}

}  // namespace walfs
