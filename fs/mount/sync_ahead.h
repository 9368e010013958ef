// Syncs of one file, begun before the application asks for them.
//
// Whoever syncs after each write (a log with synchronous=FULL, a rollback journal) will do so
// again. The answer to the write and the request to sync that follows it take two wake-ups of
// sleeping threads, about as long as the disk takes: so the disk starts at once, and the request
// finds it under way or done. A sync more than was asked for does no harm; a sync less would, so
// only one that began after the last change counts. Only one runs at a time: the kernel tells of a
// failed write-back once, and two at once could not know whose it was.
//
// Every call may come from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

namespace walfs {

class SyncAhead {
 public:
  using Sync = std::function<int()>;  // Returns 0 or an errno.
  // Called with 0 or the errno of the sync.
  using Done = std::function<void(int error)>;

  // The content or the size was changed; after the change was made.
  void changed();
  // Whether it is as many changes since the last request as there were before that one.
  bool expected() const;
  // Syncs, unless somebody does already, and answers those who come to wait meanwhile.
  void run_ahead(const Sync& sync);

  enum class Joined {
    kWaiting,  // `done` will be called by the thread that syncs.
    kCovered,  // Nothing was changed since the last sync, which succeeded.
    kNo,       // The caller must call run().
  };
  // A sync is asked for. Never waits, and never calls done itself.
  Joined join(Done done);
  // Syncs for the caller, after whoever is syncing. Returns 0 or the errno, also that of a sync
  // ahead that nobody was told of.
  int run(const Sync& sync);

 private:
  int perform(std::unique_lock<std::mutex>& lock, const Sync& sync, bool ahead);

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  bool running_ = false;
  uint64_t changes_ = 0;
  uint64_t changes_at_request_ = 0;  // When a sync was last asked for.
  uint64_t changes_per_sync_ = 0;    // Between the last two of these.
  uint64_t covered_ = 0;             // By the sync that is running.
  std::optional<uint64_t> synced_;   // By the last one, if it succeeded.
  int error_ = 0;                    // Of one that nobody has been told of.
  std::vector<Done> waiting_;
};

}  // namespace walfs
