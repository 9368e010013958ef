// Puts the segments that a writer has uploaded together into longer ones (compaction.h), and
// removes the short ones after a time of grace.
//
// It works on the store alone: whatever it has done when it is killed, each position is in a
// segment, and a reader takes the longest. It does nothing but after an upload, so that an idle
// writer makes no request. A thread of its own; all functions may be called from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/compaction.h"
#include "replicator/outage.h"
#include "replicator/stores/store.h"

namespace walfs {

class Compactor {
 public:
  // `scratch` is a directory for files without names. With kSteps there is no thread: a simulation
  // calls step().
  enum class Drive { kThread, kSteps };
  Compactor(Store& store, std::string scratch, CompactionPolicy policy = {},
            Drive drive = Drive::kThread);
  ~Compactor();

  // The store has acknowledged the writer's next segment.
  void add(PositionRange range, uint64_t size);
  // Soon; what is under way is given up.
  void stop();
  // Does the next thing that is due. False if there is none.
  Result<bool> step();

 private:
  struct Replaced {
    StoredObject segment;
    int64_t since_ns = 0;  // Steady clock.
  };
  void run();
  void take_new();
  Status look();
  Result<bool> compact(int64_t now_ns);
  Result<bool> remove_replaced(int64_t now_ns);

  Store& store_;
  const std::string scratch_;
  const CompactionPolicy policy_;
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<LogPiece> new_;
  Outage outage_;  // Of the thread, as all that follows.

  bool looked_ = false;           // At what was there before this process.
  std::vector<LogPiece> pieces_;  // Ascending; none contains another.
  std::deque<Replaced> replaced_;
  // Where a segment has to end: another epoch goes on there, or what lies there cannot be read.
  std::set<Position> borders_;
  std::thread thread_;
};

}  // namespace walfs
