#include "fs/capture/wal_index.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace walfs {
namespace {

constexpr size_t kCopySize = kWalIndexHeaderSize / 2;
constexpr size_t kChecksumAt = 40;

template <typename T>
T native(ByteView data, size_t at) {
  T value{};
  std::memcpy(&value, data.data() + at, sizeof(T));
  return value;
}

}  // namespace

std::optional<WalIndexHeader> parse_wal_index_header(ByteView first_96_bytes) {
  if (first_96_bytes.size() < kWalIndexHeaderSize) return std::nullopt;
  const ByteView data = first_96_bytes.first(kCopySize);
  const ByteView second = first_96_bytes.subspan(kCopySize, kCopySize);
  if (!std::equal(data.begin(), data.end(), second.begin())) return std::nullopt;
  const bool is_initialised = data[12] != 0;
  if (!is_initialised || native<uint32_t>(data, 0) != kWalVersion) return std::nullopt;
  const WalChecksum checksum =
      wal_checksum(data.first(kChecksumAt), {}, std::endian::native == std::endian::big);
  if (checksum != WalChecksum{native<uint32_t>(data, 40), native<uint32_t>(data, 44)})
    return std::nullopt;
  WalIndexHeader header;
  header.change_counter = native<uint32_t>(data, 8);
  header.big_endian_checksum = data[13] != 0;
  const auto stored_size = native<uint16_t>(data, 14);
  header.page_size = (stored_size & 0xfe00U) + ((stored_size & 1U) << 16);
  header.last_frame = native<uint32_t>(data, 16);
  header.database_pages = native<uint32_t>(data, 20);
  header.frame_checksum = {native<uint32_t>(data, 24), native<uint32_t>(data, 28)};
  header.salts = {get_be32(data, 32), get_be32(data, 36)};
  return header;
}

}  // namespace walfs
