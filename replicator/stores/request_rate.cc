#include "replicator/stores/request_rate.h"

#include <algorithm>

namespace walfs {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

RequestRate::RequestRate(unsigned per_second) : begins_(per_second, -kSecondNs) {}

int64_t RequestRate::reserve(int64_t now_ns) {
  const std::scoped_lock lock(mutex_);
  if (begins_.empty()) return now_ns;
  int64_t& place = begins_[oldest_];
  oldest_ = (oldest_ + 1) % begins_.size();
  place = std::max(now_ns, place + kSecondNs);
  return place;
}

}  // namespace walfs
