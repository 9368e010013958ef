// The bytes of SQLite's write-ahead log, after https://www.sqlite.org/fileformat2.html#walformat
//
// A 32-byte header, then frames: a 24-byte frame header and one page. Integers are big-endian; the
// magic number's last bit tells which byte order the checksum reads its input in. The checksum of a
// frame continues that of the frame before, the first one that of the header, so that a frame is
// valid only behind valid frames.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "replicator/base/bytes.h"

namespace walfs {

inline constexpr size_t kWalHeaderSize = 32;
inline constexpr size_t kWalFrameHeaderSize = 24;
inline constexpr uint32_t kWalMagicLittleEndian = 0x377f0682;  // Checksum words little-endian.
inline constexpr uint32_t kWalMagicBigEndian = 0x377f0683;     // Checksum words big-endian.
inline constexpr uint32_t kWalVersion = 3007000;

struct WalChecksum {
  uint32_t s1 = 0;
  uint32_t s2 = 0;
  friend bool operator==(const WalChecksum&, const WalChecksum&) = default;
};

struct WalSalts {
  uint32_t salt1 = 0;  // Counts up by one at each restart of the log.
  uint32_t salt2 = 0;  // Random at each restart.
  friend bool operator==(const WalSalts&, const WalSalts&) = default;
};

struct WalHeader {
  bool big_endian_checksum = false;
  uint32_t page_size = 0;  // 512 to 65536, a power of two.
  uint32_t checkpoint_sequence = 0;
  WalSalts salts;
  WalChecksum checksum;  // What the first frame's checksum continues.
};

struct WalFrameHeader {
  uint32_t page = 0;            // From 1.
  uint32_t database_pages = 0;  // Not 0: a commit frame; the database's size after the commit.
  WalSalts salts;
  WalChecksum checksum;
};

// Continues `seed` over `data`, whose size must be a multiple of 8.
WalChecksum wal_checksum(ByteView data, WalChecksum seed, bool big_endian);

// The header in the first 32 bytes of `data` if SQLite would accept it: magic, version, page size
// and checksum.
std::optional<WalHeader> parse_wal_header(ByteView data);

// The fields of the first 24 bytes of `data`, unchecked.
WalFrameHeader parse_wal_frame_header(ByteView data);

// What frame_checksum would have to be for `frame` (header and page) behind a frame or header with
// the checksum `seed`: it covers the first 8 bytes of the frame header and the page.
WalChecksum wal_frame_checksum(ByteView frame, WalChecksum seed, bool big_endian);

// Where the frame with this number (from 1) starts in the file.
constexpr uint64_t wal_frame_offset(uint32_t frame, uint32_t page_size) {
  return kWalHeaderSize + (static_cast<uint64_t>(frame) - 1) *
                              (static_cast<uint64_t>(page_size) + kWalFrameHeaderSize);
}

}  // namespace walfs
