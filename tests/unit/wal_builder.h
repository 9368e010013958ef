// Builds write-ahead logs byte by byte, from the file format document and not from our own code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/capture/read_at.h"
#include "replicator/base/bytes.h"

namespace walfs::testing {

inline void put_be32(Bytes& file, size_t at, uint32_t value) {
  for (int i = 0; i < 4; ++i) file[at + i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

inline uint32_t word_at(const Bytes& file, size_t at, bool big_endian) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{file[at + i]} << (big_endian ? 24 - 8 * i : 8 * i);
  return value;
}

// Steps through file[from, to) as the document's pseudocode does.
inline void sum_plainly(const Bytes& file, size_t from, size_t to, bool big_endian, uint32_t& s0,
                        uint32_t& s1) {
  for (size_t at = from; at < to; at += 8) {
    s0 += word_at(file, at, big_endian) + s1;
    s1 += word_at(file, at + 4, big_endian) + s0;
  }
}

// Makes every checksum of a log right again, in the given byte order (and sets the magic for it).
inline void resum_wal(Bytes& file, bool big_endian) {
  const size_t page_size = get_be32(file, 8);
  put_be32(file, 0, big_endian ? 0x377f0683 : 0x377f0682);
  uint32_t s0 = 0;
  uint32_t s1 = 0;
  sum_plainly(file, 0, 24, big_endian, s0, s1);
  put_be32(file, 24, s0);
  put_be32(file, 28, s1);
  for (size_t at = 32; at + 24 + page_size <= file.size(); at += 24 + page_size) {
    sum_plainly(file, at, at + 8, big_endian, s0, s1);
    sum_plainly(file, at + 24, at + 24 + page_size, big_endian, s0, s1);
    put_be32(file, at + 16, s0);
    put_be32(file, at + 20, s1);
  }
}

class WalBuilder {
 public:
  explicit WalBuilder(uint32_t page_size = 512, uint32_t salt1 = 100, uint32_t salt2 = 7,
                      bool big_endian = false)
      : page_size_(page_size), big_endian_(big_endian), file_(32) {
    put_be32(file_, 4, 3007000);
    put_be32(file_, 8, page_size);
    put_be32(file_, 16, salt1);
    put_be32(file_, 20, salt2);
    resum();
  }
  // A frame whose page is filled with `fill`; database_pages not 0 makes it a commit.
  WalBuilder& frame(uint32_t page, uint32_t database_pages, uint8_t fill) {
    const size_t at = file_.size();
    file_.resize(at + 24 + page_size_, fill);
    put_be32(file_, at, page);
    put_be32(file_, at + 4, database_pages);
    std::copy(file_.begin() + 16, file_.begin() + 24, file_.begin() + static_cast<long>(at) + 8);
    resum();
    return *this;
  }
  // Overwrites a frame's page and leaves every checksum as it is.
  WalBuilder& overwrite_page(uint32_t frame, uint8_t fill) {
    std::fill_n(file_.begin() + static_cast<long>(offset(frame)) + 24, page_size_, fill);
    return *this;
  }
  WalBuilder& cut(uint32_t frames) {
    file_.resize(offset(frames + 1));
    return *this;
  }
  WalBuilder& resum() {
    resum_wal(file_, big_endian_);
    return *this;
  }
  size_t offset(uint32_t frame) const { return 32 + size_t{frame - 1} * (24 + page_size_); }
  const Bytes& file() const { return file_; }
  Bytes& file() { return file_; }

 private:
  uint32_t page_size_;
  bool big_endian_;
  Bytes file_;
};

// Reads from bytes that stay where they are; counts what was read.
inline ReadAt reader(const Bytes& file, size_t* total = nullptr) {
  return [&file, total](uint64_t offset, std::span<uint8_t> into) -> size_t {
    if (offset >= file.size()) return 0;
    const size_t size = std::min(into.size(), file.size() - static_cast<size_t>(offset));
    std::copy_n(file.begin() + static_cast<long>(offset), size, into.begin());
    if (total != nullptr) *total += size;
    return size;
  };
}

}  // namespace walfs::testing
