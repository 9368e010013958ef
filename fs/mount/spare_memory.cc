#include "fs/mount/spare_memory.h"

#include <malloc.h>

#include <chrono>
#include <ctime>

namespace walfs {
namespace {

constexpr std::chrono::seconds kInterval(30);
// Below that much work since the last time there is nothing worth looking for.
constexpr int64_t kWorthIt = 100'000'000;
// A frame, a chunk or what is read of a large file is mapped by itself, and unmapped when it is
// freed.
constexpr int kMapFrom = 1 << 20;

int64_t processor_time_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

SpareMemory::SpareMemory() : ticker_(kInterval, [this] { give_back(); }) {
  ::mallopt(M_MMAP_THRESHOLD, kMapFrom);
}

void SpareMemory::give_back() {
  const int64_t now = processor_time_ns();
  if (now - worked_ns_ < kWorthIt) return;
  ::malloc_trim(0);
  worked_ns_ = now;
}

}  // namespace walfs
