// Reads one LTX file of Litestream v0.5 that arrives in parts: the pages that some transactions
// have changed. All integers are big-endian. Pure.
//
//   header, 100 bytes: "LTX1", flags u32, page size u32, pages of the database afterwards u32,
//   first
//     and last transaction u64, time in ms i64, checksum of the database before u64, ...
//   pages in ascending order: page number u32, flags u16, and with flag 1 a size u32 and an LZ4
//     block, without it (before v0.5.9) an LZ4 frame
//   6 zero bytes, an index of the pages, its size u64
//   checksum of the database afterwards u64, and of all that the file holds, its pages decompressed
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

struct LZ4F_dctx_s;

namespace walfs::litestream {

inline constexpr size_t kLtxHeaderSize = 100;
inline constexpr size_t kLtxPageHeaderSize = 6;  // Before the size of a block.
inline constexpr uint32_t kLtxNoChecksums = 2;   // In the flags: none of the database.
inline constexpr uint16_t kLtxPageHasSize = 1;   // In the flags of a page.
// Set in every checksum, so that none is 0.
inline constexpr uint64_t kLtxChecksumFlag = uint64_t{1} << 63;

struct LtxHeader {
  bool has_checksums = false;  // Of the database.
  uint32_t page_size = 0;
  uint32_t pages = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  int64_t time_ns = 0;
  // Holds every page.
  bool is_snapshot() const { return first == 1; }
};

// The header in the first 100 bytes; nothing if it is none.
std::optional<LtxHeader> parse_ltx_header(ByteView data);

class LtxStream {
 public:
  using PageSink = std::function<Status(uint32_t page, ByteView content)>;

  // `key` names the object in messages.
  LtxStream(std::string key, PageSink sink);
  ~LtxStream();
  LtxStream(const LtxStream&) = delete;
  LtxStream& operator=(const LtxStream&) = delete;

  Status add(ByteView bytes);
  // After the last bytes: kDamaged unless all of the file was there and has its checksums.
  Status finish();
  // Of what came so far; without a value before its header.
  const std::optional<LtxHeader>& header() const { return header_; }

 private:
  enum class Part { kHeader, kPageHeader, kSize, kBlock, kFrame, kTail };

  Error damaged(const std::string& what) const;
  void expect(Part part, size_t size);
  void sum(ByteView bytes);
  Status take();
  Status take_header();
  Status take_page_header();
  Status take_size();
  Status take_block();
  Status take_page();
  Status add_to_frame(ByteView& bytes);
  void add_to_tail(ByteView bytes);
  bool is_complete() const;

  const std::string key_;
  const PageSink sink_;
  Part part_ = Part::kHeader;
  size_t expected_ = kLtxHeaderSize;
  Bytes rest_;  // Of the part that is not complete yet; of the tail, its last bytes.
  std::optional<LtxHeader> header_;
  LZ4F_dctx_s* context_ = nullptr;
  Bytes page_;
  size_t page_filled_ = 0;
  uint32_t page_number_ = 0;
  uint64_t count_ = 0;
  uint64_t checksum_ = 0;           // Of the file.
  uint64_t database_checksum_ = 0;  // Of the pages so far.
};

}  // namespace walfs::litestream
