// Empties the spool into the store: segments in order, one PUT each, and each forgotten once the
// store has it.
//
// A thread of its own, so that a slow or absent store delays nobody. It claims the epoch before its
// first upload and stops for good when another writer holds it. All functions may be called from
// any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "replicator/base/result.h"
#include "replicator/epoch.h"
#include "replicator/keys.h"
#include "replicator/outage.h"
#include "replicator/stores/store.h"

namespace walfs {

struct UploadStatus {
  Position uploaded;  // Everything up to here is in the store.
  uint64_t segments_waiting = 0;
  uint64_t bytes_waiting = 0;
  uint64_t room_waiting = 0;      // What they take on the disk.
  int64_t oldest_waiting_ns = 0;  // Steady clock; 0 when nothing waits.
  std::optional<Error> error;     // Of the newest attempt; empty while all is well.
  int64_t failing_since_ns = 0;   // Steady clock; 0 while all is well.
  bool fenced = false;            // Another writer has taken over: nothing more will be uploaded.
  Fencing fencing = Fencing::kUnclaimed;
  uint64_t puts = 0;
  uint64_t bytes_put = 0;
};

class Uploader {
 public:
  // `uploaded` is the position that the store is known to have. The claim is made if `fencing` is
  // kUnclaimed.
  // `on_claimed` is called from the uploader's thread when it has made the claim; nothing is
  // uploaded before it succeeds.
  // With kSteps there is no thread: a simulation calls step().
  enum class Drive { kThread, kSteps };
  Uploader(Store& store, std::string spool, Epoch epoch, Fencing fencing, Position uploaded,
           std::function<Status()> on_claimed = {}, Drive drive = Drive::kThread);
  ~Uploader();

  // Before its first upload it proves that the store's log leads from `known` to what the store was
  // said to have. kDamaged if segments are missing: what was built on them could not be restored.
  void prove_log_from(Position known);
  // Called from the uploader's thread for each segment that the store has acknowledged.
  void on_uploaded(std::function<void(PositionRange, uint64_t size)> callback);
  void add(PositionRange segment);
  UploadStatus status() const;
  // True once the store has everything up to `position`; false after the timeout or when fenced.
  bool wait_for(Position position, std::chrono::milliseconds timeout);
  // True once no more than so many bytes wait; false after the timeout.
  bool wait_until_at_most(uint64_t bytes, std::chrono::milliseconds timeout);
  // Ends the thread after the upload that is under way; what waits stays in the spool.
  void stop();
  // One attempt at the oldest segment, which the thread would make. False if there is none, or
  // another writer has taken over.
  bool step();

 private:
  struct Waiting {
    PositionRange range;
    uint64_t size = 0;
    int64_t since_ns = 0;
  };
  void run();
  bool has_work() const { return !waiting_.empty() && !status_.fenced; }
  Status attempt(std::unique_lock<std::mutex>& lock);
  Status upload(const Waiting& segment);
  Status claim();
  Status prove_log();
  Status put_segment(const std::string& path, const Waiting& segment);
  Status check_not_replaced();
  void note_success(const Waiting& segment);
  void note_failure(const Error& error);

  Store& store_;
  const std::string spool_;
  const Epoch epoch_;
  const std::function<Status()> on_claimed_;
  std::function<void(PositionRange, uint64_t)> on_uploaded_;
  std::optional<Position> to_prove_from_;
  Position put_;  // The newest segment that was put; of the uploader's thread.

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  UploadStatus status_;
  Outage outage_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace walfs
