#include "replicator/hash.h"

#include <xxhash.h>

#include <cstring>
#include <vector>

namespace walfs {
namespace {

bool all_zero(ByteView data) {
  return data.empty() ||
         (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

}  // namespace

uint64_t block_hash(uint64_t index, ByteView data, uint32_t block_size) {
  if (all_zero(data)) return kZeroBlockHash;
  uint64_t hash;
  if (data.size() < block_size) {
    static thread_local Bytes padded;
    padded.assign(block_size, 0);
    std::memcpy(padded.data(), data.data(), data.size());
    hash = XXH3_64bits_withSeed(padded.data(), padded.size(), index + 1);
  } else {
    hash = XXH3_64bits_withSeed(data.data(), data.size(), index + 1);
  }
  return hash <= kUnknownHash ? hash + 2 : hash;
}

uint64_t stored_hash(ByteView data) {
  return XXH3_64bits(data.data(), data.size());
}

}  // namespace walfs
