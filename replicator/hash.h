// Checksums of content: of one block, of a whole file, and of stored bytes.
//
// A block's hash covers its content as a full block, zeros standing for what lies behind the end of
// the file, and its index, so that two blocks changing places do not cancel out. A block of zeros
// has the hash 0, so that holes cost nothing. A file's checksum is the sum of its blocks' hashes
// modulo 2^64: it does not depend on the order in which blocks are hashed and changes with one
// block in constant time.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/digest.h"

namespace walfs {

inline constexpr uint64_t kZeroBlockHash = 0;
inline constexpr uint64_t kUnknownHash =
    1;  // Never the hash of a block: content not looked at yet.
inline constexpr uint32_t kBlockSizeMin = 512;
inline constexpr uint32_t kBlockSizeMax = 65536;

// data holds block_size bytes, or fewer at the end of a file. XXH3 with 64 bits, seeded with index
// + 1.
uint64_t block_hash(uint64_t index, ByteView data, uint32_t block_size);

// XXH3 with 64 bits over stored bytes.
uint64_t stored_hash(ByteView data);

}  // namespace walfs
