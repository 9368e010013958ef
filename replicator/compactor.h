// Puts the segments that a writer has uploaded together into longer ones, thins out what is old
// (compaction.h), and removes what both have replaced after a time of grace.
//
// It works on the store alone: whatever it has done when it is killed, each position is in a
// segment, and a reader takes the longest.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/compaction.h"
#include "replicator/stores/store.h"

namespace walfs {

class Compactor {
 public:
  // `scratch` is a directory for files without names. What is under way is given up soon after
  // `stopping` is set.
  Compactor(Store& store, std::string scratch, const std::atomic<bool>& stopping,
            CompactionPolicy policy = {});

  // The store has acknowledged the writer's next segment. From any thread; all other functions from
  // one at a time.
  void add(PositionRange range, uint64_t size);
  // Does the next thing that is due. False if there is none.
  Result<bool> step();
  // What ends at or before the position was removed.
  void forget_until(Position position);

 private:
  struct Replaced {
    StoredObject segment;
    int64_t since_ns = 0;  // Steady clock.
  };
  void take_new();
  Status look();
  Result<bool> compact(int64_t now_ns);
  Result<bool> thin_out_next(int64_t steady_now_ns);
  // What lies between may be put together nevertheless.
  void leave(const std::vector<StoredObject>& segments, const Error& error);
  std::vector<LogPiece>::iterator find_piece(const StoredObject& segment);
  void replace(const Compaction& due, const StoredObject& made);
  Result<bool> remove_replaced(int64_t now_ns);

  Store& store_;
  const std::string scratch_;
  const std::atomic<bool>& stopping_;
  const CompactionPolicy policy_;

  std::mutex mutex_;
  std::deque<LogPiece> new_;  // Under mutex_.

  bool looked_ = false;           // At what was there before this process.
  std::vector<LogPiece> pieces_;  // Ascending; none contains another.
  std::deque<Replaced> replaced_;
  // Where a segment has to end: another epoch goes on there, or what lies there cannot be read.
  std::set<Position> borders_;
};

}  // namespace walfs
