#include "replicator/litestream/ltx_stream.h"

#include <lz4.h>
#include <lz4frame.h>

#include <algorithm>
#include <cstdlib>

#include "replicator/base/database_header.h"
#include "replicator/litestream/crc64.h"

namespace walfs::litestream {
namespace {

constexpr size_t kSizeSize = 4;
constexpr size_t kTrailerSize = 16;
constexpr int64_t kMsMax = INT64_MAX / 1'000'000;

uint64_t get_be64(ByteView data, size_t offset) {
  return uint64_t{get_be32(data, offset)} << 32 | get_be32(data, offset + 4);
}

}  // namespace

std::optional<LtxHeader> parse_ltx_header(ByteView data) {
  if (data.size() < kLtxHeaderSize || as_text(data.first(4)) != "LTX1") return std::nullopt;
  const uint32_t flags = get_be32(data, 4);
  LtxHeader header;
  header.has_checksums = (flags & kLtxNoChecksums) == 0;
  header.page_size = get_be32(data, 8);
  header.pages = get_be32(data, 12);
  header.first = get_be64(data, 16);
  header.last = get_be64(data, 24);
  const auto time_ms = static_cast<int64_t>(get_be64(data, 32));
  if ((flags & ~kLtxNoChecksums) != 0 || !is_page_size(header.page_size)) return std::nullopt;
  if (header.first == 0 || header.first > header.last) return std::nullopt;
  if (time_ms < 0 || time_ms > kMsMax) return std::nullopt;
  header.time_ns = time_ms * 1'000'000;
  return header;
}

LtxStream::LtxStream(std::string key, PageSink sink)
    : key_(std::move(key)), sink_(std::move(sink)) {
  if (LZ4F_isError(LZ4F_createDecompressionContext(&context_, LZ4F_VERSION)) != 0) std::abort();
}

LtxStream::~LtxStream() {
  LZ4F_freeDecompressionContext(context_);
}

Error LtxStream::damaged(const std::string& what) const {
  return Error{Errc::kDamaged, key_ + " is damaged: " + what};
}

void LtxStream::expect(Part part, size_t size) {
  part_ = part;
  expected_ = size;
  rest_.clear();
}

void LtxStream::sum(ByteView bytes) {
  checksum_ = crc64_iso(checksum_, bytes);
}

Status LtxStream::add(ByteView bytes) {
  while (!bytes.empty()) {
    if (part_ == Part::kTail) {
      add_to_tail(bytes);
      return {};
    }
    if (part_ == Part::kFrame) {
      WALFS_TRY(add_to_frame(bytes));
      continue;
    }
    const size_t size = std::min(expected_ - rest_.size(), bytes.size());
    rest_.insert(rest_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    bytes = bytes.subspan(size);
    if (rest_.size() == expected_) WALFS_TRY(take());
  }
  return {};
}

Status LtxStream::take() {
  if (part_ != Part::kBlock) sum(rest_);  // Of a block, what it gives is summed.
  switch (part_) {
    case Part::kHeader:
      return take_header();
    case Part::kPageHeader:
      return take_page_header();
    case Part::kSize:
      return take_size();
    default:
      return take_block();
  }
}

Status LtxStream::take_header() {
  header_ = parse_ltx_header(rest_);
  if (!header_) return damaged("it does not begin with the header of an LTX file");
  page_.resize(header_->page_size);
  expect(Part::kPageHeader, kLtxPageHeaderSize);
  return {};
}

Status LtxStream::take_page_header() {
  const uint32_t page = get_be32(rest_, 0);
  const uint16_t flags = get_be16(rest_, 4);
  if (page == 0 && flags == 0) {
    expect(Part::kTail, 0);
    return {};
  }
  if (page <= page_number_ || page > header_->pages || page == lock_page(header_->page_size))
    return damaged("page " + std::to_string(page) + " cannot be where it is");
  if ((flags & ~kLtxPageHasSize) != 0) return damaged("a page has flags that are not known");
  page_number_ = page;
  page_filled_ = 0;
  if (flags == kLtxPageHasSize) {
    expect(Part::kSize, kSizeSize);
  } else {
    LZ4F_resetDecompressionContext(context_);
    expect(Part::kFrame, 0);
  }
  return {};
}

Status LtxStream::take_size() {
  const uint32_t size = get_be32(rest_, 0);
  if (size == 0 || size > LZ4_COMPRESSBOUND(header_->page_size))
    return damaged("a page claims to be larger than pages are");
  expect(Part::kBlock, size);
  return {};
}

Status LtxStream::take_block() {
  const int got = LZ4_decompress_safe(
      reinterpret_cast<const char*>(rest_.data()), reinterpret_cast<char*>(page_.data()),
      static_cast<int>(rest_.size()), static_cast<int>(page_.size()));
  if (got != static_cast<int>(page_.size())) return damaged("a page cannot be decompressed");
  return take_page();
}

Status LtxStream::add_to_frame(ByteView& bytes) {
  uint8_t overflow = 0;
  const bool full = page_filled_ == page_.size();
  size_t taken = bytes.size();
  size_t given = full ? 1 : page_.size() - page_filled_;
  const size_t wanted = LZ4F_decompress(context_, full ? &overflow : page_.data() + page_filled_,
                                        &given, bytes.data(), &taken, nullptr);
  if (LZ4F_isError(wanted) != 0) return damaged("a page cannot be decompressed");
  bytes = bytes.subspan(taken);
  if (full && given > 0) return damaged("a page is larger than pages are");
  page_filled_ += given;
  if (wanted != 0) return {};
  if (page_filled_ != page_.size()) return damaged("a page is smaller than pages are");
  return take_page();
}

Status LtxStream::take_page() {
  sum(page_);
  const uint8_t number[4] = {
      static_cast<uint8_t>(page_number_ >> 24), static_cast<uint8_t>(page_number_ >> 16),
      static_cast<uint8_t>(page_number_ >> 8), static_cast<uint8_t>(page_number_)};
  database_checksum_ ^= crc64_iso(crc64_iso(0, number), page_);
  ++count_;
  expect(Part::kPageHeader, kLtxPageHeaderSize);
  return sink_(page_number_, page_);
}

void LtxStream::add_to_tail(ByteView bytes) {
  rest_.insert(rest_.end(), bytes.begin(), bytes.end());
  if (rest_.size() <= kTrailerSize) return;
  const size_t index = rest_.size() - kTrailerSize;
  sum(ByteView(rest_).first(index));
  rest_.erase(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(index));
}

bool LtxStream::is_complete() const {
  const bool without_one = header_->pages >= lock_page(header_->page_size);
  return count_ + (without_one ? 1 : 0) == header_->pages;
}

Status LtxStream::finish() {
  if (part_ != Part::kTail || rest_.size() != kTrailerSize) return damaged("it ends too early");
  sum(ByteView(rest_).first(8));
  if ((checksum_ | kLtxChecksumFlag) != get_be64(rest_, 8)) return damaged("it fails its checksum");
  if (!header_->is_snapshot()) return {};
  if (!is_complete()) return damaged("it does not hold all pages of the database");
  if (header_->has_checksums && (database_checksum_ | kLtxChecksumFlag) != get_be64(rest_, 0))
    return damaged("its pages fail the checksum of the database");
  return {};
}

}  // namespace walfs::litestream
