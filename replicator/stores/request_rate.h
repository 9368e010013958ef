// How many requests a store gets in a second at most, whoever makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace walfs {

// Exact: of any second, however it is laid over time, no more than `per_second` requests begin.
// Thread-safe. Knows no clock.
class RequestRate {
 public:
  explicit RequestRate(unsigned per_second);  // 0 = no limit.

  // Takes the next place in the row: when the request may begin, `now_ns` or later. Clock: steady.
  int64_t reserve(int64_t now_ns);

 private:
  std::mutex mutex_;
  std::vector<int64_t> begins_;  // Of the last requests, as a ring.
  size_t oldest_ = 0;
};

}  // namespace walfs
