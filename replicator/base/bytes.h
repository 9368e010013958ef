// Reading and writing the little-endian integers, varints and strings of our formats.
// ByteReader never reads past its input: after the first fault every read gives zero and ok() is
// false.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace walfs {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class ByteWriter {
 public:
  void u8(uint8_t value) { out_.push_back(value); }
  void u16(uint16_t value) { fixed(value); }
  void u32(uint32_t value) { fixed(value); }
  void u64(uint64_t value) { fixed(value); }
  // LEB128, at most ten bytes.
  void varint(uint64_t value);
  void bytes(ByteView data) { out_.insert(out_.end(), data.begin(), data.end()); }
  // A varint length, then the bytes.
  void string(std::string_view text);
  size_t size() const { return out_.size(); }
  void truncate(size_t size) { out_.resize(size); }
  const Bytes& data() const { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  template <typename T>
  void fixed(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) out_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  Bytes out_;
};

class ByteReader {
 public:
  explicit ByteReader(ByteView data) : data_(data) {}
  uint8_t u8() { return fixed<uint8_t>(); }
  uint16_t u16() { return fixed<uint16_t>(); }
  uint32_t u32() { return fixed<uint32_t>(); }
  uint64_t u64() { return fixed<uint64_t>(); }
  uint64_t varint();
  // The next `size` bytes, or an empty view and a fault.
  ByteView bytes(size_t size);
  // A varint length of at most `max`, then the bytes.
  std::string_view string(size_t max);
  // Marks the input as faulty: for values that are out of their bounds.
  void fail() { ok_ = false; }
  bool ok() const { return ok_; }
  bool at_end() const { return position_ == data_.size(); }
  size_t remaining() const { return data_.size() - position_; }

 private:
  template <typename T>
  T fixed() {
    ByteView raw = bytes(sizeof(T));
    T value = 0;
    for (size_t i = 0; i < raw.size(); ++i)
      value = static_cast<T>(value | (static_cast<T>(raw[i]) << (8 * i)));
    return value;
  }
  ByteView data_;
  size_t position_ = 0;
  bool ok_ = true;
};

// Big-endian integers of SQLite's formats; `data` holds at least the integer's size from `offset`.
uint16_t get_be16(ByteView data, size_t offset);
uint32_t get_be32(ByteView data, size_t offset);

}  // namespace walfs
