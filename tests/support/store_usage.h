// What S3 bills for: requests by kind, and bytes for as long as they are stored; and its prices.
#pragma once

#include <algorithm>
#include <cstdint>

#include "replicator/time.h"

namespace walfs::test {

inline constexpr int64_t kMinuteNs = 60 * kNsPerSecond;
inline constexpr int64_t kHourNs = 60 * kMinuteNs;
inline constexpr int64_t kDayNs = 24 * kHourNs;
inline constexpr int64_t kMonthNs = 365 * kDayNs / 12;

struct Usage {
  uint64_t puts = 0;     // Of an upload in parts each one, and its beginning and its end.
  uint64_t lists = 0;    // Of a thousand keys at most.
  uint64_t gets = 0;     // HEAD is one, too.
  uint64_t deletes = 0;  // Of one key or many.
  uint64_t bytes_put = 0;
  uint64_t objects = 0;  // Now, and the most that there were.
  uint64_t objects_max = 0;
  uint64_t bytes = 0;
  double byte_ns = 0;
};

// US dollars of S3 Standard in us-east-1, as listed in November 2026. What is removed costs
// nothing.
struct S3Prices {
  double per_1000_puts = 0.005;  // LIST, too.
  double per_1000_gets = 0.0004;
  double per_gib_month = 0.023;
};

inline double gib_months(const Usage& usage) {
  return usage.byte_ns / static_cast<double>(kMonthNs) / (1 << 30);
}
inline double cost_of_requests(const Usage& usage, const S3Prices& prices) {
  return static_cast<double>(usage.puts + usage.lists) / 1000 * prices.per_1000_puts +
         static_cast<double>(usage.gets) / 1000 * prices.per_1000_gets;
}
inline double cost_of_storage(const Usage& usage, const S3Prices& prices) {
  return gib_months(usage) * prices.per_gib_month;
}

// Follows the objects of one bucket. Times ascend.
class UsageMeter {
 public:
  // Uploads of more than `part_size` go in parts.
  UsageMeter(int64_t begin_ns, uint64_t part_size) : at_ns_(begin_ns), part_size_(part_size) {}

  void put(int64_t now_ns, uint64_t size) {
    count_put(size);
    pass_to(now_ns);
    usage_.bytes += size;
    ++usage_.objects;
    usage_.objects_max = std::max(usage_.objects_max, usage_.objects);
  }
  // Of an object that is not there afterwards, or was replaced by another one of the name.
  void count_put(uint64_t size) {
    usage_.puts += size > part_size_ ? 2 + (size + part_size_ - 1) / part_size_ : 1;
    usage_.bytes_put += size;
  }
  // Without a request.
  void remove(int64_t now_ns, uint64_t size) {
    pass_to(now_ns);
    usage_.bytes -= size;
    --usage_.objects;
  }
  void count_lists(uint64_t count) { usage_.lists += count; }
  void count_gets(uint64_t count) { usage_.gets += count; }
  void count_deletes(uint64_t count) { usage_.deletes += count; }
  void pass_to(int64_t now_ns) {
    usage_.byte_ns += static_cast<double>(usage_.bytes) * static_cast<double>(now_ns - at_ns_);
    at_ns_ = now_ns;
  }
  const Usage& usage() const { return usage_; }

 private:
  int64_t at_ns_;
  uint64_t part_size_;
  Usage usage_;
};

}  // namespace walfs::test
