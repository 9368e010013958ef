// The header of SQLite's WAL-index (-shm): how far the application itself takes the log for
// committed. After https://www.sqlite.org/walformat.html#walidxfmt and walIndexTryHdr() in SQLite's
// wal.c. In the byte order of the machine, which must be the one that wrote it. Pure.
//
// Only a hint: with locking_mode=EXCLUSIVE there is no such file, and the pages of a mapped file
// may reach us late.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "replicator/base/bytes.h"
#include "replicator/base/wal_format.h"

namespace walfs {

inline constexpr size_t kWalIndexHeaderSize = 96;  // Two copies of 48 bytes.

struct WalIndexHeader {
  uint32_t change_counter = 0;  // Counts transactions.
  bool big_endian_checksum = false;
  uint32_t page_size = 0;
  uint32_t last_frame = 0;      // The last commit frame; 0 after a restart.
  uint32_t database_pages = 0;  // Size of the database after that commit.
  WalChecksum frame_checksum;   // Of the last frame.
  WalSalts salts;               // As in the log's header.
};

// Nothing unless both copies are the same, initialised, of a known version, and have their
// checksum.
std::optional<WalIndexHeader> parse_wal_index_header(ByteView first_96_bytes);

}  // namespace walfs
