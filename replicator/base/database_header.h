// The first 100 bytes of a SQLite database. After
// https://www.sqlite.org/fileformat2.html#the_database_header and, for what is accepted, SQLite's
// own lockBtree() in btree.c. Pure; all input is untrusted.
#pragma once

#include <cstdint>
#include <optional>

#include "replicator/base/bytes.h"

namespace walfs {

inline constexpr size_t kDatabaseHeaderSize = 100;

bool is_page_size(uint32_t size);  // 512 to 65536, a power of two.

struct DatabaseHeader {
  uint32_t page_size = 0;  // 512 to 65536, a power of two.
  uint8_t write_version = 0;
  uint8_t read_version = 0;
  uint8_t reserved_bytes = 0;          // At the end of each page, for extensions.
  uint32_t change_counter = 0;         // Counts transactions; not those of WAL mode.
  std::optional<uint32_t> page_count;  // Absent where an old SQLite left it out of date: then the
                                       // file's size counts.
  bool is_wal_mode() const { return read_version == 2; }
};

// Nothing if SQLite would not take it for a database: fewer bytes, another magic, a page size out
// of bounds, payload fractions other than the fixed ones, a newer format.
std::optional<DatabaseHeader> parse_database_header(ByteView first_100_bytes);

// The page that holds the lock bytes at 1 GiB. SQLite never writes it; in a larger database it is
// missing from every log.
constexpr uint32_t lock_page(uint32_t page_size) {
  return 0x40000000U / page_size + 1;
}

}  // namespace walfs
