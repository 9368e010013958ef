#include "fs/mount/sync_ahead.h"

#include <cerrno>
#include <exception>
#include <utility>

namespace walfs {

void SyncAhead::changed() {
  const std::scoped_lock lock(mutex_);
  ++changes_;
}

bool SyncAhead::expected() const {
  const std::scoped_lock lock(mutex_);
  return !running_ && changes_per_sync_ != 0 && changes_ - changes_at_request_ == changes_per_sync_;
}

// Unlocked while it syncs and while it answers.
int SyncAhead::perform(std::unique_lock<std::mutex>& lock, const Sync& sync, bool ahead) {
  running_ = true;
  covered_ = changes_;
  lock.unlock();
  int error = EIO;
  try {
    error = sync();
  } catch (const std::exception&) {
    // No memory: as if the disk had failed.
  }
  lock.lock();
  running_ = false;
  synced_ = error == 0 ? std::optional(covered_) : std::nullopt;
  const std::vector<Done> waiting = std::exchange(waiting_, {});
  if (ahead && error != 0 && waiting.empty()) error_ = error;
  if (!ahead && error == 0) error = std::exchange(error_, 0);
  lock.unlock();
  idle_.notify_all();
  for (const Done& done : waiting) done(error);
  return error;
}

void SyncAhead::run_ahead(const Sync& sync) {
  std::unique_lock lock(mutex_);
  if (!running_) perform(lock, sync, true);
}

int SyncAhead::run(const Sync& sync) {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !running_; });
  return perform(lock, sync, false);
}

SyncAhead::Joined SyncAhead::join(Done done) {
  const std::scoped_lock lock(mutex_);
  changes_per_sync_ = changes_ - changes_at_request_;
  changes_at_request_ = changes_;
  if (error_ != 0) return Joined::kNo;
  if (running_ && covered_ == changes_) {
    waiting_.push_back(std::move(done));
    return Joined::kWaiting;
  }
  return !running_ && synced_ == changes_ ? Joined::kCovered : Joined::kNo;
}

}  // namespace walfs
