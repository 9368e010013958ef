#include "replicator/stores/request_rate.h"

#include <algorithm>

#include "replicator/time.h"

namespace walfs {

RequestRate::RequestRate(unsigned per_second) : begins_(per_second, -kNsPerSecond) {}

int64_t RequestRate::reserve(int64_t now_ns) {
  const std::scoped_lock lock(mutex_);
  if (begins_.empty()) return now_ns;
  int64_t& place = begins_[oldest_];
  oldest_ = (oldest_ + 1) % begins_.size();
  place = std::max(now_ns, place + kNsPerSecond);
  return place;
}

}  // namespace walfs
