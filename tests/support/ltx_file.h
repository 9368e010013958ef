// Writes LTX files as Litestream v0.5 does, from the description of the format and not from our own
// code.
#pragma once

#include <gtest/gtest.h>
#include <lz4.h>

#include <map>

#include "tests/support/litestream_replica.h"

namespace walfs::test {

// Bit by bit, after the definition.
inline uint64_t crc64_plainly(ByteView data) {
  uint64_t crc = ~uint64_t{0};
  for (const uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xd800000000000000ULL : crc >> 1;
  }
  return ~crc;
}

struct LtxFile {
  uint32_t page_size = 512;
  uint32_t pages = 0;
  uint64_t first = 1;
  uint64_t last = 1;
  int64_t time_ms = 0;
  bool checksums = false;
  bool frames = false;  // As before v0.5.9: each page is an LZ4 frame.
  std::map<uint32_t, Bytes> content;

  Bytes bytes() const {
    Bytes header(100);
    std::copy_n("LTX1", 4, header.begin());
    number(header, 4, 4, checksums ? 0 : 2);
    number(header, 8, 4, page_size);
    number(header, 12, 4, pages);
    number(header, 16, 8, first);
    number(header, 24, 8, last);
    number(header, 32, 8, static_cast<uint64_t>(time_ms));
    if (checksums && first > 1) number(header, 40, 8, uint64_t{1} << 63);
    Bytes stored = header;
    Bytes summed = header;
    Bytes index;
    uint64_t database = 0;
    for (const auto& [page, data] : content) add_page(page, data, stored, summed, index, database);
    index.push_back(0);
    number(index, index.size(), 8, index.size());
    for (Bytes* out : {&stored, &summed}) {
      out->insert(out->end(), 6, 0);
      out->insert(out->end(), index.begin(), index.end());
      number(*out, out->size(), 8, checksums ? database | uint64_t{1} << 63 : 0);
    }
    number(stored, stored.size(), 8, crc64_plainly(summed) | uint64_t{1} << 63);
    return stored;
  }

 private:
  static void number(Bytes& out, size_t at, size_t size, uint64_t value) {
    out.resize(std::max(out.size(), at + size));
    for (size_t i = 0; i < size; ++i)
      out[at + i] = static_cast<uint8_t>(value >> 8 * (size - 1 - i));
  }
  static void varint(Bytes& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
  }
  void add_page(uint32_t page, const Bytes& data, Bytes& stored, Bytes& summed, Bytes& index,
                uint64_t& database) const {
    const size_t begin = stored.size();
    Bytes block;
    if (frames) {
      block = lz4(data);
    } else {
      block.resize(LZ4_compressBound(static_cast<int>(data.size())));
      block.resize(static_cast<size_t>(LZ4_compress_default(
          reinterpret_cast<const char*>(data.data()), reinterpret_cast<char*>(block.data()),
          static_cast<int>(data.size()), static_cast<int>(block.size()))));
    }
    for (Bytes* out : {&stored, &summed}) {
      number(*out, out->size(), 4, page);
      number(*out, out->size(), 2, frames ? 0 : 1);
      if (!frames) number(*out, out->size(), 4, block.size());
    }
    stored.insert(stored.end(), block.begin(), block.end());
    summed.insert(summed.end(), data.begin(), data.end());
    varint(index, page);
    varint(index, begin);
    varint(index, stored.size() - begin);
    Bytes numbered;
    number(numbered, 0, 4, page);
    numbered.insert(numbered.end(), data.begin(), data.end());
    database ^= crc64_plainly(numbered);
  }
};

}  // namespace walfs::test
