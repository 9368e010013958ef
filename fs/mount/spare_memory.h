// Gives memory that was freed back to the system.
//
// glibc keeps what several threads have freed for its next use, scattered over an arena of each:
// after hours of busy databases that is hundreds of megabytes of which nothing is used (mallopt(3),
// malloc_trim(3)).
#pragma once

#include <cstdint>

#include "fs/tracking/ticker.h"

namespace walfs {

class SpareMemory {
 public:
  // Once for the process, before its threads are started. A thread of its own, which does nothing
  // while the process does nothing.
  SpareMemory();

 private:
  void give_back();

  int64_t worked_ns_ = 0;  // Processor time of the process when it was done last.
  Ticker ticker_;
};

}  // namespace walfs
