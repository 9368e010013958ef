#include "fs/mount/sync_ahead.h"

#include <algorithm>
#include <utility>

namespace walfs {

void SyncAhead::changed() {
  const std::scoped_lock lock(mutex_);
  ++changes_;
}

bool SyncAhead::expected() const {
  const std::scoped_lock lock(mutex_);
  return running_ == 0 && changes_per_sync_ != 0 &&
         changes_ - changes_at_request_ == changes_per_sync_;
}

void SyncAhead::run(const std::function<int()>& sync) {
  uint64_t covered = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (running_ != 0 || changes_ == 0) return;
    covered = running_ = changes_;
  }
  const int error = sync();
  std::vector<Done> waiting;
  {
    const std::scoped_lock lock(mutex_);
    running_ = 0;
    waiting = std::exchange(waiting_, {});
    if (error == 0) synced_ = std::max(synced_, covered);
    // The kernel tells of a failed write-back once; we must not lose it.
    if (error != 0 && waiting.empty()) error_ = error;
  }
  for (const Done& done : waiting) done(error);
}

bool SyncAhead::join(Done done) {
  int error = 0;
  {
    const std::scoped_lock lock(mutex_);
    changes_per_sync_ = changes_ - changes_at_request_;
    changes_at_request_ = changes_;
    error = std::exchange(error_, 0);
    if (error == 0) {
      if (running_ == changes_ && running_ != 0) {
        waiting_.push_back(std::move(done));
        return true;
      }
      if (synced_ != changes_ || synced_ == 0) return false;
    }
  }
  done(error);
  return true;
}

}  // namespace walfs
