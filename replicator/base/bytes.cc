#include "replicator/base/bytes.h"

namespace walfs {

void ByteWriter::varint(uint64_t value) {
  while (value >= 0x80) {
    out_.push_back(static_cast<uint8_t>(value | 0x80));
    value >>= 7;
  }
  out_.push_back(static_cast<uint8_t>(value));
}

void ByteWriter::string(std::string_view text) {
  varint(text.size());
  bytes(as_bytes(text));
}

uint64_t ByteReader::varint() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const uint8_t byte = u8();
    if (!ok_) return 0;
    if (shift == 63 && byte > 1) break;
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  ok_ = false;
  return 0;
}

ByteView ByteReader::bytes(size_t size) {
  if (!ok_ || size > remaining()) {
    ok_ = false;
    return {};
  }
  ByteView view = data_.subspan(position_, size);
  position_ += size;
  return view;
}

std::string_view ByteReader::string(size_t max) {
  const uint64_t size = varint();
  if (size > max) ok_ = false;
  return as_text(bytes(ok_ ? static_cast<size_t>(size) : 0));
}

uint16_t get_be16(ByteView data, size_t offset) {
  return static_cast<uint16_t>((data[offset] << 8) | data[offset + 1]);
}

uint32_t get_be32(ByteView data, size_t offset) {
  return (static_cast<uint32_t>(get_be16(data, offset)) << 16) | get_be16(data, offset + 2);
}

}  // namespace walfs
