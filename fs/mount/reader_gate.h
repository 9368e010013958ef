// Which of the server's threads wait at the device.
//
// The kernel wakes the readers of a FUSE device in turn. With as many waiting as there are threads,
// an application's next request always goes to the one that slept longest, on another processor
// with cold caches. So only a few wait there; the others sleep in here, and one of them is woken
// only when every thread at the device is busy with something that may take long.
#pragma once

#include <condition_variable>
#include <mutex>

namespace walfs {

class ReaderGate {
 public:
  // at_device: how many threads may wait at the device, at least 1.
  explicit ReaderGate(int at_device) : at_device_max_(at_device) {}

  // Returns when the thread should read from the device; false once close() was called.
  bool enter() {
    std::unique_lock lock(mutex_);
    ++parked_;
    wake_.wait(lock, [this] { return closed_ || at_device_ < at_device_max_; });
    --parked_;
    ++at_device_;
    return !closed_;
  }

  // Before work that may take long. enter() comes after it.
  void leave() {
    bool wake = false;
    {
      std::lock_guard lock(mutex_);
      // The others that are gone from the device come back by themselves; nobody is woken for them
      // as long as somebody is left.
      wake = --at_device_ == 0 && parked_ > 0;
    }
    if (wake) wake_.notify_one();
  }

  // Ends the waiting of all threads.
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    wake_.notify_all();
  }

 private:
  const int at_device_max_;
  std::mutex mutex_;
  std::condition_variable wake_;
  int at_device_ = 0;
  int parked_ = 0;
  bool closed_ = false;
};

}  // namespace walfs
