// Begins to sync a file before the application asks for it.
//
// Whoever syncs after each write (a log with synchronous=FULL, a rollback journal) will do so
// again. The answer to the write and the request to sync that follows it take two wake-ups of
// sleeping threads, about as long as the disk takes: so the disk starts at once, and the request
// finds it under way or done. A sync more than was asked for does no harm; a sync less would, so
// only one that began after the last change counts.
//
// Every call may come from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace walfs {

class SyncAhead {
 public:
  // Called with 0 or the errno of the sync.
  using Done = std::function<void(int error)>;

  // The content or the size was changed; after the change was made.
  void changed();
  // Whether it is as many changes since the last sync as there were before that one.
  bool expected() const;
  // Calls sync(), which returns 0 or an errno, and answers those who came to wait.
  void run(const std::function<int()>& sync);
  // A sync is asked for. True if run() covers it: done was called, or will be by the thread that is
  // in run(). False if the caller must sync itself.
  bool join(Done done);

 private:
  mutable std::mutex mutex_;
  uint64_t changes_ = 0;
  uint64_t changes_at_request_ = 0;  // When a sync was last asked for.
  uint64_t changes_per_sync_ = 0;    // Between the last two of these.
  uint64_t synced_ = 0;              // Changes that the last run() covers; only if it succeeded.
  uint64_t running_ = 0;             // Changes that the run() under way will cover; 0: none is.
  int error_ = 0;                    // Of a run() that nobody has been told of.
  std::vector<Done> waiting_;
};

}  // namespace walfs
