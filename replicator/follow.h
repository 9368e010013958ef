// A restored directory that is kept up to date with its replica: a warm standby.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/followed_tree.h"
#include "replicator/locked_directory.h"
#include "replicator/replica.h"
#include "replicator/stores/store.h"

namespace walfs {

// DIRECTORY.following, a private directory beside the one that follows, for what is needed
// meanwhile. Removed when this object is; what somebody who was killed has left there is used
// again.
class FollowPlace {
 public:
  // kConflict if somebody follows with this directory, which need not be there yet, or if something
  // else has the place's name.
  static Result<FollowPlace> claim(const std::string& directory);
  FollowPlace(FollowPlace&&) noexcept = default;
  ~FollowPlace();
  const std::string& directory() const { return directory_; }
  // For files on the same filesystem that are to get names in the directory, or have lost theirs.
  std::string files() const { return place_.path() + "/walfs-files"; }
  // The open place, for files without names.
  int fd() const { return place_.fd(); }
  Status clear();

 private:
  explicit FollowPlace(std::string directory) : directory_(std::move(directory)) {}
  std::string directory_;  // Absolute.
  LockedDirectory place_;
};

class Follower {
 public:
  // The place's directory was restored from the whole replica as of `position`. The place outlives
  // the follower.
  static Result<Follower> start(Store& store, FollowPlace& place, Position position);

  // Brings the directory to the newest point of the store, point by point; false if it is there
  // already, which costs one listing. Ends early, between two points, when `cancelled`. What is
  // needed of a point is fetched before anything is changed for it, so that after kRetry, kDenied,
  // kNothingThere, kNoSpace and kCancelled the directory is as of position(), and this can be
  // called again. kConflict or kUnsupported: the log does not go on from position() any more, or
  // needs what the directory does not have; restore anew. After any other failure it may be no
  // state of the log.
  Result<bool> catch_up(const std::atomic<bool>* cancelled);

  Position position() const { return position_; }
  int64_t time_ns() const { return time_ns_; }

 private:
  class Segment;
  struct Held {
    std::shared_ptr<Segment> segment;
    std::vector<Change> changes;
  };

  Follower(Store& store, const FollowPlace& place) : store_(&store), place_(&place) {}
  Result<std::vector<StoredObject>> find_new_segments();
  Status apply(const std::vector<StoredObject>& segments, const std::atomic<bool>* cancelled);
  Status add(const StoredObject& stored, const std::atomic<bool>* cancelled);
  Status add(Point point, const std::shared_ptr<Segment>& segment);

  Store* store_;
  const FollowPlace* place_;
  std::unique_ptr<FollowedTree> tree_;
  Position position_;  // The newest point that the directory has.
  int64_t time_ns_ = 0;
  Position seen_;  // The newest one that was read; behind position_ while points are partial.
  std::vector<Held> held_;  // Partial points behind position_.
};

}  // namespace walfs
