// zstd in one shot, with every size bounded by the caller.
#pragma once

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

namespace walfs {

// level as zstd defines it; 3 is zstd's default.
Bytes compress(ByteView data, int level);
// The content must be exactly raw_size bytes long; kDamaged otherwise, naming `name`.
Result<Bytes> decompress(const std::string& name, ByteView stored, uint64_t raw_size);

}  // namespace walfs
