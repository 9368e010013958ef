// A set of byte ranges of a file: those that were written and are not captured yet.
//
// Bounded (I7): beyond kRangesMax ranges the smaller half of the gaps between them is taken in, so
// the set may then contain more bytes than were added, never fewer. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

namespace walfs {

class ByteRanges {
 public:
  static constexpr size_t kRangesMax = 4096;

  // Ranges are [begin, end); an empty or inverted one is nothing. UINT64_MAX as end reaches beyond
  // any file.
  void add(uint64_t begin, uint64_t end);
  // Takes out exactly that, unless the bound is reached.
  void remove(uint64_t begin, uint64_t end);
  void clear();
  // Takes out everything from `size` on.
  void truncate(uint64_t size) { remove(size, UINT64_MAX); }

  bool empty() const { return ranges_.empty(); }
  bool contains(uint64_t at) const { return intersects(at, at + 1); }
  bool intersects(uint64_t begin, uint64_t end) const;
  uint64_t total_bytes() const { return total_; }
  size_t size() const { return ranges_.size(); }

  // The first block from `block` on with a byte of the set: walks the set in order without listing
  // it, also while it changes.
  std::optional<uint64_t> next_block(uint64_t block, uint64_t block_size) const;

  // Begin and end of each range, in order; ranges neither overlap nor touch.
  const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }

 private:
  void coarsen();

  std::map<uint64_t, uint64_t> ranges_;
  uint64_t total_ = 0;
};

}  // namespace walfs
