// What a writer does for its replica beside the log: it puts segments together (compactor.h),
// writes snapshots (snapshotter.h) and removes what is older than the retention (retention.h). Each
// of them works on the store alone, and may die at any step.
//
// Nothing is done but after an upload, so that an idle writer makes no request. A thread of its
// own; all functions may be called from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "replicator/base/result.h"
#include "replicator/compactor.h"
#include "replicator/outage.h"
#include "replicator/retention.h"
#include "replicator/snapshotter.h"
#include "replicator/stores/store.h"

namespace walfs {

struct UpkeepPolicy {
  CompactionPolicy compaction;
  SnapshotPolicy snapshots;
  RetentionPolicy retention;
};

class Upkeep {
 public:
  // `scratch` is a directory for files without names. With kSteps there is no thread: a simulation
  // calls step().
  enum class Drive { kThread, kSteps };
  Upkeep(Store& store, std::string scratch, UpkeepPolicy policy, Drive drive = Drive::kThread);
  ~Upkeep();

  // The store has acknowledged the writer's next segment.
  void add(PositionRange range, uint64_t size);
  // Soon; what is under way is given up.
  void stop();
  // Does the next thing that is due. False if there is none.
  Result<bool> step();

 private:
  void run();

  std::atomic<bool> stopping_{false};
  Compactor compactor_;
  Snapshotter snapshotter_;
  Retention retention_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_new_ = false;
  Outage outage_;  // Of the thread.
  std::thread thread_;
};

}  // namespace walfs
