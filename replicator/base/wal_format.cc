#include "replicator/base/wal_format.h"

#include <bit>
#include <cstring>

#include "replicator/base/database_header.h"

namespace walfs {
namespace {

uint32_t swap_bytes(uint32_t value) {
  return __builtin_bswap32(value);
}

template <bool kSwap>
WalChecksum sum_words(ByteView data, WalChecksum seed) {
  uint32_t s1 = seed.s1;
  uint32_t s2 = seed.s2;
  const uint8_t* at = data.data();
  const uint8_t* const end = at + (data.size() & ~size_t{7});
  for (; at != end; at += 8) {
    uint32_t first = 0;
    uint32_t second = 0;
    std::memcpy(&first, at, 4);
    std::memcpy(&second, at + 4, 4);
    if constexpr (kSwap) {
      first = swap_bytes(first);
      second = swap_bytes(second);
    }
    s1 += first + s2;
    s2 += second + s1;
  }
  return {s1, s2};
}

}  // namespace

WalChecksum wal_checksum(ByteView data, WalChecksum seed, bool big_endian) {
  const bool native = big_endian == (std::endian::native == std::endian::big);
  return native ? sum_words<false>(data, seed) : sum_words<true>(data, seed);
}

std::optional<WalHeader> parse_wal_header(ByteView data) {
  if (data.size() < kWalHeaderSize) return std::nullopt;
  const uint32_t magic = get_be32(data, 0);
  if (magic != kWalMagicLittleEndian && magic != kWalMagicBigEndian) return std::nullopt;
  if (get_be32(data, 4) != kWalVersion) return std::nullopt;
  WalHeader header;
  header.big_endian_checksum = magic == kWalMagicBigEndian;
  header.page_size = get_be32(data, 8);
  if (!is_page_size(header.page_size)) return std::nullopt;
  header.checkpoint_sequence = get_be32(data, 12);
  header.salts = {get_be32(data, 16), get_be32(data, 20)};
  header.checksum = wal_checksum(data.first(24), {}, header.big_endian_checksum);
  if (header.checksum != WalChecksum{get_be32(data, 24), get_be32(data, 28)}) return std::nullopt;
  return header;
}

WalFrameHeader parse_wal_frame_header(ByteView data) {
  return {get_be32(data, 0),
          get_be32(data, 4),
          {get_be32(data, 8), get_be32(data, 12)},
          {get_be32(data, 16), get_be32(data, 20)}};
}

WalChecksum wal_frame_checksum(ByteView frame, WalChecksum seed, bool big_endian) {
  const WalChecksum header = wal_checksum(frame.first(8), seed, big_endian);
  return wal_checksum(frame.subspan(kWalFrameHeaderSize), header, big_endian);
}

}  // namespace walfs
