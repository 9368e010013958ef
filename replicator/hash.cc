#include "replicator/hash.h"

#include <openssl/evp.h>
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

Sha256 sha256(ByteView data) {
  Sha256 digest{};
  unsigned size = 0;
  EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return digest;
}

std::string to_hex(ByteView data) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(data.size() * 2);
  for (const uint8_t byte : data) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

}  // namespace walfs
