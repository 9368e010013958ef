// The time of a file's last change while the kernel keeps it.
//
// With its write-back cache the kernel sets that time itself, at the write(2), and sends it before
// each fsync and when the file is closed, if it is another than it sent before. But the write that
// it passes on gives the file in the backing directory a later one: also after the kernel has sent
// its own, and it sends none for a file that was made and written to in one tick of its clock.
//
// Every call may come from any thread.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "fs/mount/proc_path.h"
#include "replicator/time.h"

namespace walfs {

class ChangeTime {
 public:
  // As the kernel was told it when it came to know the inode.
  explicit ChangeTime(const timespec& told) : known_(told) {}

  // What the kernel knows was known to a server that died.
  void lose() {
    std::lock_guard lock(mutex_);
    known_.reset();
  }
  // By the kernel; before the backing file gets it: a write that comes in between moves it again.
  void given(const timespec& time) {
    std::lock_guard lock(mutex_);
    known_ = time;
    moved_.store(false, std::memory_order_relaxed);
  }
  // By a change of the backing file; after it was made.
  void moved() {
    if (!moved_.load(std::memory_order_relaxed) && !moved_.exchange(true))
      moved_at_ns_.store(steady_ns(), std::memory_order_relaxed);
  }
  bool moved_for(int64_t ns) const {
    return moved_.load(std::memory_order_relaxed) &&
           steady_ns() - moved_at_ns_.load(std::memory_order_relaxed) >= ns;
  }
  // Whether it has moved since it was given or this was last asked.
  bool take_moved() { return moved_.load(std::memory_order_relaxed) && moved_.exchange(false); }
  // Gives the backing file what the kernel knows.
  void put_back(int path_fd) {
    std::lock_guard lock(mutex_);
    if (!known_) return;
    const timespec times[2] = {{0, UTIME_OMIT}, *known_};
    utimensat(AT_FDCWD, ProcPath(path_fd).text, times, 0);
  }

 private:
  std::atomic<bool> moved_{false};
  std::atomic<int64_t> moved_at_ns_{0};
  std::mutex mutex_;
  std::optional<timespec> known_;
};

}  // namespace walfs
