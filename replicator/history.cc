#include "replicator/history.h"

#include <algorithm>
#include <set>
#include <utility>

#include "replicator/replica.h"

namespace walfs {
namespace {

// What changes between two points that can be restored.
class Summary {
 public:
  void add(const Point& point) {
    for (const Change& change : point.changes) {
      if (const auto* content = std::get_if<SetContent>(&change)) {
        (content->database ? databases_ : files_).insert(content->id);
        for (const BlockChange& block : content->blocks) {
          if (block.hash != kZeroBlockHash)
            bytes_ += stored_block_size(block.index, content->block_size, content->size);
        }
      } else if (const auto* file = std::get_if<SetFile>(&change)) {
        files_.insert(file->id);
      } else if (const auto* drop = std::get_if<DropFile>(&change)) {
        files_.insert(drop->id);
      } else if (const FileId child = std::get<SetEntry>(change).child; child != kNoFile) {
        files_.insert(child);
      }
    }
  }

  HistoryPoint take(const Point& point) {
    std::erase_if(files_, [this](FileId id) { return databases_.contains(id); });
    const HistoryPoint summed = {point.position, point.time_ns, bytes_, databases_.size(),
                                 files_.size()};
    *this = Summary();
    return summed;
  }

 private:
  uint64_t bytes_ = 0;
  std::set<FileId> databases_;
  std::set<FileId> files_;
};

class Reader {
 public:
  explicit Reader(Store& store) : store_(store) {}

  Status add(const Route& route) {
    if (route.snapshot.range.first == route.snapshot.range.last) {
      WALFS_ASSIGN(const Snapshot snapshot, load_snapshot(store_, route.snapshot));
      if (seen_.insert(snapshot.range.last).second)
        points_.push_back({snapshot.range.last, snapshot.time_ns, 0, 0, 0});
    }
    Summary summary;
    for (const StoredObject& segment : route.segments) {
      if (segment.range.last < route.snapshot.range.last || seen_.contains(segment.range.last))
        continue;
      WALFS_ASSIGN(const SegmentIndex index, load_segment_index(store_, segment));
      for (const Point& point : index.points) {
        summary.add(point);
        if (point.partial) continue;
        const HistoryPoint summed = summary.take(point);
        if (point.position >= route.snapshot.range.last && seen_.insert(point.position).second)
          points_.push_back(summed);
      }
    }
    return {};
  }

  std::vector<HistoryPoint> take() {
    std::sort(points_.begin(), points_.end(),
              [](const auto& a, const auto& b) { return a.position < b.position; });
    return std::move(points_);
  }

 private:
  Store& store_;
  std::set<Position> seen_;
  std::vector<HistoryPoint> points_;
};

// Neighbours as one.
std::vector<PositionRange> ranges_of(const std::vector<StoredObject>& segments) {
  std::vector<PositionRange> ranges;
  for (const StoredObject& segment : segments) {
    if (!ranges.empty() && segment.range.first <= ranges.back().last.next()) {
      ranges.back().last = std::max(ranges.back().last, segment.range.last);
    } else {
      ranges.push_back(segment.range);
    }
  }
  return ranges;
}

}  // namespace

Result<History> read_history(Store& store) {
  WALFS_ASSIGN(const ReplicaListing listing, list_replica(store));
  WALFS_ASSIGN(const std::vector<Route> routes, usable_routes(store, listing));
  Reader reader(store);
  for (const Route& route : routes) WALFS_TRY(reader.add(route));
  History history;
  history.points = reader.take();
  history.lost = ranges_of(find_stranded(listing, routes));
  history.segments = listing.segments.size();
  history.snapshots = listing.snapshots.size();
  for (const auto* objects : {&listing.segments, &listing.snapshots})
    for (const StoredObject& object : *objects) history.bytes += object.size;
  return history;
}

}  // namespace walfs
