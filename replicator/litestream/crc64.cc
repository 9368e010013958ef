#include "replicator/litestream/crc64.h"

#include <array>
#include <bit>
#include <cstring>

namespace walfs::litestream {
namespace {

constexpr uint64_t kPolynomial = 0xd800000000000000;

using Tables = std::array<std::array<uint64_t, 256>, 8>;

// Table n holds what a byte does to the checksum n bytes later, so that eight are taken at once.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ kPolynomial : crc >> 1;
    tables[0][byte] = crc;
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    for (size_t n = 1; n < 8; ++n) {
      const uint64_t before = tables[n - 1][byte];
      tables[n][byte] = tables[0][before & 0xff] ^ before >> 8;
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint64_t crc64_iso(uint64_t crc, ByteView data) {
  static_assert(std::endian::native == std::endian::little);
  crc = ~crc;
  while (data.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data.data(), 8);
    word ^= crc;
    crc = 0;
    for (size_t n = 0; n < 8; ++n) crc ^= kTables[7 - n][word >> 8 * n & 0xff];
    data = data.subspan(8);
  }
  for (const uint8_t byte : data) crc = kTables[0][(crc ^ byte) & 0xff] ^ crc >> 8;
  return ~crc;
}

}  // namespace walfs::litestream
