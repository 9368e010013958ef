// A set of inodes in memory that outlives the process. Not thread-safe: the owner has a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace walfs {

class InodeSet {
 public:
  static constexpr size_t kPlaces = size_t{1} << 16;  // A power of two.
  static constexpr size_t kInodesMax = kPlaces / 2;

  // All zero is the empty set. Changed by single stores, each of which leaves it valid.
  using Places = std::array<std::atomic<uint64_t>, kPlaces>;

  explicit InodeSet(Places& places);

  // False if there is no room for it.
  bool add(uint64_t inode);
  void remove(uint64_t inode);
  bool contains(uint64_t inode) const { return places_[find(inode)] == inode; }
  std::vector<uint64_t> all() const;

 private:
  // Where the inode is, or where it would go.
  size_t find(uint64_t inode) const;
  static size_t home_of(uint64_t inode) { return (inode * 0x9E3779B97F4A7C15ULL) >> 48; }

  Places& places_;
  size_t size_ = 0;
};

}  // namespace walfs
