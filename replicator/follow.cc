#include "replicator/follow.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "replicator/base/file_io.h"
#include "replicator/restore.h"
#include "replicator/restore_target.h"

namespace walfs {
namespace {

Error must_restore_anew(const std::string& why) {
  return {Errc::kConflict, "the log does not go on from what was restored: " + why};
}

Position end_of(const Route& route) {
  return route.segments.empty() ? route.snapshot.range.last : route.segments.back().range.last;
}

// Of a failure in the directory, which cannot be tried again.
Error in_between(const Status& failed) {
  const Errc code = failed.error().code;
  const bool says_enough = code == Errc::kDamaged || code == Errc::kUnsupported;
  return {says_enough ? code : Errc::kIo, failed.error().message};
}

}  // namespace

// A segment's data, fetched as a whole into a file without a name.
class Follower::Segment {
 public:
  static Result<std::shared_ptr<Segment>> fetch(Store& store, const StoredObject& stored,
                                                int directory, const std::atomic<bool>* cancelled) {
    auto segment = std::make_shared<Segment>();
    WALFS_ASSIGN(segment->index_, load_segment_index(store, stored));
    WALFS_ASSIGN(segment->file_, open_unnamed(directory, "to follow with"));
    const std::string key = segment_key(stored.range, stored.level);
    for (const auto& frame : segment->index_.frames) {
      if (cancelled != nullptr && *cancelled) return Error{Errc::kCancelled, "interrupted"};
      WALFS_ASSIGN(const Bytes object, store.get_range(key, {frame.offset, frame.stored_size}));
      WALFS_ASSIGN(const Bytes raw, decode_frame(key, frame, object));
      WALFS_TRY(write_at(segment->file_.get(), raw, frame.data_start, "what was fetched"));
    }
    return segment;
  }

  std::vector<Point> take_points() { return std::move(index_.points); }
  Result<Bytes> read(const BlockChange& block, uint64_t size) const {
    WALFS_ASSIGN(Bytes bytes, read_at(file_.get(), block.data_offset, size, "what was fetched"));
    if (bytes.size() != size)
      return Error{Errc::kDamaged, "the replica is damaged: a block lies outside of its segment"};
    return bytes;
  }

 private:
  SegmentIndex index_;
  FileDescriptor file_;
};

Result<FollowPlace> FollowPlace::claim(const std::string& directory) {
  WALFS_ASSIGN(std::string absolute, target_path(directory));
  FollowPlace place(std::move(absolute));
  WALFS_ASSIGN(place.place_,
               LockedDirectory::claim(
                   place.directory_ + ".following",
                   [](const std::string& name) { return name == "walfs-files"; },
                   "another restore follows with " + place.directory_ + ", or has just ended"));
  WALFS_TRY(place.clear());
  return place;
}

FollowPlace::~FollowPlace() {
  if (!place_.valid()) return;
  std::error_code ignored;
  std::filesystem::remove_all(files(), ignored);
  std::filesystem::remove(place_.path(), ignored);
}

Status FollowPlace::clear() {
  std::error_code failed;
  std::filesystem::remove_all(files(), failed);
  if (failed) return error_from_errno("cannot clear " + files(), failed.value());
  if (::mkdir(files().c_str(), 0700) != 0)
    return error_from_errno("cannot create " + files(), errno);
  return {};
}

Result<Follower> Follower::start(Store& store, FollowPlace& place, Position position) {
  WALFS_TRY(place.clear());
  Follower follower(store, place);
  RestoreTarget target;
  target.position = position;
  WALFS_ASSIGN(RoutedPlan routed, make_restore_plan(store, target));
  follower.position_ = follower.seen_ = routed.plan.position;
  follower.time_ns_ = routed.plan.time_ns;
  WALFS_ASSIGN(FollowedTree tree,
               FollowedTree::open(place.directory(), place.files(), std::move(routed.plan)));
  follower.tree_ = std::make_unique<FollowedTree>(std::move(tree));
  return follower;
}

Result<std::vector<StoredObject>> Follower::find_new_segments() {
  WALFS_ASSIGN(const bool goes_on, log_goes_on(*store_, seen_));
  if (!goes_on) return std::vector<StoredObject>();
  WALFS_ASSIGN(const ReplicaListing replica, list_replica(*store_));
  const bool replaced = std::any_of(
      replica.epochs.begin(), replica.epochs.end(),
      [this](const Epoch& epoch) { return epoch.number > seen_.epoch() && epoch.parent < seen_; });
  std::vector<StoredObject> found = follow_log(replica, {seen_, seen_});
  if (!replaced && !found.empty()) return found;
  // Until a restore would lead elsewhere, there is nothing better than what the directory has.
  const std::vector<Route> routes = find_routes(replica);
  if (routes.empty() || end_of(routes.back()) == seen_) return std::vector<StoredObject>();
  if (replaced)
    return must_restore_anew(replica.epochs.back().holder + " went on from an earlier point");
  return must_restore_anew("it begins anew, or has a gap");
}

Result<bool> Follower::catch_up(const std::atomic<bool>* cancelled) {
  WALFS_TRY(tree_->check_place(place_->directory()));
  const Position before = position_;
  WALFS_ASSIGN(const std::vector<StoredObject> segments, find_new_segments());
  const Status applied = apply(segments, cancelled);
  if (position_ != before) {
    if (const Status flushed = tree_->flush(); !flushed.ok()) return in_between(flushed);
  }
  if (!applied.ok()) return applied.error();
  return position_ != before;
}

Status Follower::apply(const std::vector<StoredObject>& segments,
                       const std::atomic<bool>* cancelled) {
  for (const StoredObject& segment : segments) WALFS_TRY(add(segment, cancelled));
  return {};
}

Status Follower::add(const StoredObject& stored, const std::atomic<bool>* cancelled) {
  WALFS_ASSIGN(const std::shared_ptr<Segment> segment,
               Segment::fetch(*store_, stored, place_->fd(), cancelled));
  for (Point& point : segment->take_points()) {
    if (cancelled != nullptr && *cancelled) return Error{Errc::kCancelled, "interrupted"};
    if (point.position > seen_) WALFS_TRY(add(std::move(point), segment));
  }
  return {};
}

Status Follower::add(Point point, const std::shared_ptr<Segment>& segment) {
  const Position position = point.position;
  held_.push_back({segment, std::move(point.changes)});
  if (!point.partial) {
    std::vector<PointPart> parts;
    for (Held& held : held_) {
      parts.push_back(
          {std::move(held.changes), [from = held.segment](const BlockChange& block, uint64_t size) {
             return from->read(block, size);
           }});
    }
    held_.clear();
    WALFS_TRY(tree_->check_place(place_->directory()));
    if (const Status applied = tree_->apply(parts); !applied.ok()) return in_between(applied);
    position_ = position;
    time_ns_ = point.time_ns;
  }
  seen_ = position;
  return {};
}

}  // namespace walfs
