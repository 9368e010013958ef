#include "replicator/follow.h"

#include <fcntl.h>
#include <sys/file.h>
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

// Of a failure in the directory, which cannot be tried again.
Error in_between(const Status& failed) {
  const Errc code = failed.error().code;
  const bool says_enough =
      code == Errc::kDamaged || code == Errc::kUnsupported || code == Errc::kNoSpace;
  return {says_enough ? code : Errc::kIo, failed.error().message};
}

}  // namespace

// A segment's data, fetched as a whole into a file without a name.
class Follower::Segment {
 public:
  static Result<std::shared_ptr<Segment>> fetch(Store& store, const StoredObject& stored,
                                                int directory) {
    auto segment = std::make_shared<Segment>();
    WALFS_ASSIGN(segment->index_, load_segment_index(store, stored));
    WALFS_ASSIGN(segment->file_, open_unnamed(directory, "to follow with"));
    const std::string key = segment_key(stored.range, stored.level);
    for (const auto& frame : segment->index_.frames) {
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
  const std::string name = place.directory_ + ".following";
  if (::mkdir(name.c_str(), 0700) != 0 && errno != EEXIST)
    return error_from_errno("cannot create " + name, errno);
  FileDescriptor lock(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock.valid()) return error_from_errno("cannot open " + name, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{Errc::kConflict, "another restore follows with " + place.directory_};
  // Whatever else has the name stays as it is.
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(name, failed)) {
    if (entry.path() != place.files())
      return Error{Errc::kConflict, name + " is in the way, and no restore has left it there"};
  }
  if (failed) return error_from_errno("cannot look into " + name, failed.value());
  place.lock_ = std::move(lock);
  WALFS_TRY(place.clear());
  return place;
}

FollowPlace::~FollowPlace() {
  if (!lock_.valid()) return;
  std::error_code ignored;
  std::filesystem::remove_all(files(), ignored);
  std::filesystem::remove(directory_ + ".following", ignored);
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
  for (const Epoch& epoch : replica.epochs) {
    if (epoch.number > seen_.epoch() && epoch.parent < seen_)
      return must_restore_anew(epoch.holder + " has taken over behind an earlier point");
  }
  std::vector<StoredObject> found = follow_log(replica, {seen_, seen_});
  if (!found.empty()) return found;
  const std::vector<Route> routes = find_routes(replica);
  const bool elsewhere =
      !routes.empty() &&
      (routes.back().segments.empty() ? routes.back().snapshot.range.last
                                      : routes.back().segments.back().range.last) > seen_;
  if (elsewhere) return must_restore_anew("it begins anew, or has a gap");
  return found;
}

Result<bool> Follower::catch_up(const std::atomic<bool>* cancelled) {
  const Position before = position_;
  WALFS_ASSIGN(const std::vector<StoredObject> segments, find_new_segments());
  for (const StoredObject& segment : segments) WALFS_TRY(add(segment, cancelled));
  if (position_ == before) return false;
  if (const Status flushed = tree_->flush(); !flushed.ok()) return in_between(flushed);
  return true;
}

Status Follower::add(const StoredObject& stored, const std::atomic<bool>* cancelled) {
  WALFS_ASSIGN(const std::shared_ptr<Segment> segment,
               Segment::fetch(*store_, stored, place_->fd()));
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
    if (const Status applied = tree_->apply(parts); !applied.ok()) return in_between(applied);
    position_ = position;
    time_ns_ = point.time_ns;
  }
  seen_ = position;
  return {};
}

}  // namespace walfs
