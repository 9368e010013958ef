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
#include "replicator/stores/store.h"

namespace walfs {

struct UploadStatus {
  Position uploaded;  // Everything up to here is in the store.
  uint64_t segments_waiting = 0;
  uint64_t bytes_waiting = 0;
  int64_t oldest_waiting_ns = 0;  // Steady clock; 0 when nothing waits.
  std::optional<Error> error;     // Of the newest attempt; empty while all is well.
  bool fenced = false;            // Another writer has taken over: nothing more will be uploaded.
  uint64_t puts = 0;
  uint64_t bytes_put = 0;
};

class Uploader {
 public:
  // `uploaded` is the position that the store is known to have. The claim is made if `claimed` is
  // false.
  // `on_claimed` is called from the uploader's thread when it has made the claim.
  Uploader(Store& store, std::string spool, Epoch epoch, bool claimed, Position uploaded,
           std::function<void()> on_claimed = {});
  ~Uploader();

  void add(PositionRange segment);
  UploadStatus status() const;
  // True once the store has everything up to `position`; false after the timeout or when fenced.
  bool wait_for(Position position, std::chrono::milliseconds timeout);
  // Ends the thread after the upload that is under way; what waits stays in the spool.
  void stop();

 private:
  struct Waiting {
    PositionRange range;
    uint64_t size = 0;
    int64_t since_ns = 0;
  };
  void run();
  Status upload(const Waiting& segment);
  Status put_segment(const std::string& path, const Waiting& segment);
  Status check_not_replaced();
  void note_failure(const Error& error);

  Store& store_;
  const std::string spool_;
  const Epoch epoch_;
  bool claimed_;
  const std::function<void()> on_claimed_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  UploadStatus status_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace walfs
