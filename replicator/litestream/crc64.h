// CRC-64 with ISO 3309's polynomial, reflected, as the hash/crc64 package of Go computes it. Pure.
#pragma once

#include <cstdint>

#include "replicator/base/bytes.h"

namespace walfs::litestream {

// Continues `crc`, which is 0 at the beginning.
uint64_t crc64_iso(uint64_t crc, ByteView data);

}  // namespace walfs::litestream
