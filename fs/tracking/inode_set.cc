#include "fs/tracking/inode_set.h"

namespace walfs {

static_assert(InodeSet::kPlaces == size_t{1} << 16, "home_of() gives 16 bits");

InodeSet::InodeSet(Places& places) : places_(places) {
  for (const auto& inode : places_) size_ += inode != 0 ? 1 : 0;
}

// Linear probing; there is always a free place.
size_t InodeSet::find(uint64_t inode) const {
  size_t place = home_of(inode);
  while (places_[place] != 0 && places_[place] != inode) place = (place + 1) % kPlaces;
  return place;
}

std::vector<uint64_t> InodeSet::all() const {
  std::vector<uint64_t> inodes;
  for (const auto& inode : places_) {
    if (inode != 0) inodes.push_back(inode);
  }
  return inodes;
}

bool InodeSet::add(uint64_t inode) {
  const size_t place = find(inode);
  if (places_[place] == inode) return true;
  if (size_ >= kInodesMax) return false;
  places_[place] = inode;
  ++size_;
  return true;
}

// Later entries of the same run move up before the place becomes free, so that each can be found at
// any instant; one that is there twice for a moment does no harm.
void InodeSet::remove(uint64_t inode) {
  size_t hole = find(inode);
  if (places_[hole] != inode) return;
  for (size_t place = (hole + 1) % kPlaces; places_[place] != 0; place = (place + 1) % kPlaces) {
    const size_t from_home = (place - home_of(places_[place])) % kPlaces;
    if (from_home < (place - hole) % kPlaces) continue;
    places_[hole] = places_[place].load();
    hole = place;
  }
  places_[hole] = 0;
  --size_;
}

}  // namespace walfs
