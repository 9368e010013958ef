#include "fs/capture/byte_ranges.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <vector>

namespace walfs {

void ByteRanges::add(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  // The first range that reaches `begin`, then all that start at or before `end`, become one.
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin() && std::prev(at)->second >= begin) --at;
  while (at != ranges_.end() && at->first <= end) {
    begin = std::min(begin, at->first);
    end = std::max(end, at->second);
    total_ -= at->second - at->first;
    at = ranges_.erase(at);
  }
  ranges_.emplace_hint(at, begin, end);
  total_ += end - begin;
  if (ranges_.size() > kRangesMax) coarsen();
}

void ByteRanges::remove(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin() && std::prev(at)->second > begin) --at;
  while (at != ranges_.end() && at->first < end) {
    const auto [old_begin, old_end] = *at;
    at = ranges_.erase(at);
    if (old_begin < begin) ranges_.emplace_hint(at, old_begin, begin);
    if (old_end > end) ranges_.emplace_hint(at, end, old_end);
    total_ -= std::min(old_end, end) - std::max(old_begin, begin);
  }
  if (ranges_.size() > kRangesMax) coarsen();
}

void ByteRanges::clear() {
  ranges_.clear();
  total_ = 0;
}

bool ByteRanges::intersects(uint64_t begin, uint64_t end) const {
  if (begin >= end) return false;
  const auto after = ranges_.lower_bound(end);
  return after != ranges_.begin() && std::prev(after)->second > begin;
}

std::optional<uint64_t> ByteRanges::next_block(uint64_t block, uint64_t block_size) const {
  if (block_size == 0 || block > std::numeric_limits<uint64_t>::max() / block_size)
    return std::nullopt;
  const uint64_t from = block * block_size;
  const auto after = ranges_.upper_bound(from);
  if (after != ranges_.begin() && std::prev(after)->second > from) return block;
  if (after == ranges_.end()) return std::nullopt;
  return after->first / block_size;
}

// Half of the ranges go at once, so that the cost per added range stays small.
void ByteRanges::coarsen() {
  std::vector<uint64_t> gaps;
  gaps.reserve(ranges_.size());
  for (auto at = ranges_.begin(), next = std::next(at); next != ranges_.end(); ++at, ++next)
    gaps.push_back(next->first - at->second);
  const auto middle = gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() / 2);
  std::nth_element(gaps.begin(), middle, gaps.end());
  const uint64_t gap_max = *middle;
  for (auto at = ranges_.begin(), next = std::next(at); next != ranges_.end();) {
    const uint64_t gap = next->first - at->second;
    if (gap <= gap_max) {
      at->second = next->second;
      total_ += gap;
      next = ranges_.erase(next);
    } else {
      at = next++;
    }
  }
}

}  // namespace walfs
