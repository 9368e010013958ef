#include "fs/capture/wal_follower.h"

#include <algorithm>

namespace walfs {
namespace {

// The first read is small, as most scans find little; later ones take a large bite.
constexpr size_t kFirstReadBytes = 16 << 10;
constexpr size_t kReadBytes = 256 << 10;
// Counters that differ by less are taken for the same log counted on, not for a log with new random
// salts.
constexpr uint32_t kSaltDistanceMax = 1 << 16;

}  // namespace

uint64_t WalFollower::committed_end() const {
  return following_ ? wal_frame_offset(committed_.frame + 1, header_.page_size) : 0;
}

uint64_t WalFollower::valid_end() const {
  return following_ ? committed_end() + tail_.size() * frame_size() : 0;
}

// How many frames end at or before `offset`.
uint32_t WalFollower::frames_below(uint64_t offset) const {
  if (offset <= kWalHeaderSize) return 0;
  const uint64_t frames = (offset - kWalHeaderSize) / frame_size();
  return static_cast<uint32_t>(std::min<uint64_t>(frames, std::numeric_limits<uint32_t>::max()));
}

WalScan WalFollower::scan(const ReadAt& read, const WalScanOptions& options) {
  WalScan scan;
  unchanged_below_ = std::min(unchanged_below_, options.unchanged_below);
  if (!follow_header(read, scan)) return scan;
  scan.state = WalState::kFollowing;
  switch (verify_last_transaction(read)) {
    case Check::kValid:
      break;
    case Check::kForeign:
      scan.state = WalState::kOverwritten;
      return scan;
    case Check::kBroken:
      withdraw_last_transaction(scan);
      if (verify_frames(read, start_of_frames(), committed_) != Check::kValid)
        withdraw_generation(scan);
      break;
  }
  forget_tail();
  unchanged_below_ = std::numeric_limits<uint64_t>::max();
  read_frames(read, options.max_bytes, scan);
  return scan;
}

bool WalFollower::follow_header(const ReadAt& read, WalScan& scan) {
  std::array<uint8_t, kWalHeaderSize> raw{};
  if (read(0, raw) < raw.size()) {
    scan.state = WalState::kEmpty;
    scan.ended_generation = following_;
    end_generation();
    return false;
  }
  if (following_ && raw == raw_header_) return true;
  const auto header = parse_wal_header(raw);
  if (!header) {
    scan.state = WalState::kBadHeader;
    return false;
  }
  begin_generation(*header, scan);
  raw_header_ = raw;
  return true;
}

void WalFollower::begin_generation(const WalHeader& header, WalScan& scan) {
  scan.new_generation = true;
  if (generation_ > 0) {
    const uint32_t distance = header.salts.salt1 - last_salts_.salt1;
    scan.skipped_generation = distance != 1 && (!ended_ || distance < kSaltDistanceMax);
  }
  end_generation();
  following_ = true;
  ended_ = false;
  ++generation_;
  header_ = header;
  last_salts_ = header.salts;
  committed_ = previous_ = start_of_frames();
}

void WalFollower::end_generation() {
  ended_ = ended_ || following_;
  following_ = false;
  header_ = {};
  committed_ = previous_ = {};
  tail_ = {};
  undo_ = {};
  overlay_ = {};
}

// Continues `checksum` over the frame; the checksum is only moved on by a valid frame.
WalFollower::Check WalFollower::check_frame(ByteView frame, WalChecksum& checksum) const {
  const WalFrameHeader header = parse_wal_frame_header(frame);
  if (header.salts != header_.salts) return Check::kForeign;
  if (header.page == 0) return Check::kBroken;
  const WalChecksum next = wal_frame_checksum(frame, checksum, header_.big_endian_checksum);
  if (next != header.checksum) return Check::kBroken;
  checksum = next;
  return Check::kValid;
}

// Reads those frames of the last transaction again that may have been written to. The stored
// checksum of the untouched frame before them is what they continue.
WalFollower::Check WalFollower::verify_last_transaction(const ReadAt& read) const {
  Position from = previous_;
  if (const uint32_t untouched = frames_below(unchanged_below_); untouched > from.frame) {
    if (untouched >= committed_.frame) return Check::kValid;
    std::array<uint8_t, kWalFrameHeaderSize> raw{};
    if (read(wal_frame_offset(untouched, header_.page_size), raw) < raw.size())
      return Check::kBroken;
    from.frame = untouched;
    from.checksum = parse_wal_frame_header(raw).checksum;
  }
  return verify_frames(read, from, committed_);
}

// Whether the frames behind `from` still lead to `to`.
WalFollower::Check WalFollower::verify_frames(const ReadAt& read, Position from,
                                              const Position& to) const {
  Bytes buffer(from.frame < to.frame ? frame_size() : 0);
  while (from.frame < to.frame) {
    ++from.frame;
    if (read(wal_frame_offset(from.frame, header_.page_size), buffer) < buffer.size())
      return Check::kBroken;
    if (const Check check = check_frame(buffer, from.checksum); check != Check::kValid)
      return check;
  }
  return from.checksum == to.checksum ? Check::kValid : Check::kBroken;
}

void WalFollower::withdraw_last_transaction(WalScan& scan) {
  for (const Undo& undo : undo_) {
    scan.withdrawn.push_back(undo.page);
    if (undo.offset == 0) {
      overlay_.erase(undo.page);
    } else {
      overlay_[undo.page] = undo.offset;
    }
  }
  undo_ = {};
  tail_ = {};
  committed_ = previous_;
}

void WalFollower::withdraw_generation(WalScan& scan) {
  for (const auto& [page, offset] : overlay_) scan.withdrawn.push_back(page);
  std::sort(scan.withdrawn.begin(), scan.withdrawn.end());
  scan.withdrawn.erase(std::unique(scan.withdrawn.begin(), scan.withdrawn.end()),
                       scan.withdrawn.end());
  overlay_ = {};
  committed_ = previous_ = start_of_frames();
}

void WalFollower::forget_tail() {
  const uint32_t untouched = frames_below(unchanged_below_);
  const size_t kept = untouched > committed_.frame ? untouched - committed_.frame : 0;
  if (kept < tail_.size()) tail_.resize(kept);
}

void WalFollower::read_frames(const ReadAt& read, size_t max_bytes, WalScan& scan) {
  Bytes buffer;
  size_t used = 0;
  for (size_t bite = kFirstReadBytes; used < max_bytes; bite = kReadBytes) {
    const size_t wanted = std::min(bite, max_bytes - used);
    buffer.resize(std::max<size_t>(1, wanted / frame_size()) * frame_size());
    const size_t got = std::min(read(valid_end(), buffer), buffer.size());
    used += got;
    for (size_t at = 0; at + frame_size() <= got; at += frame_size()) {
      if (!accept_frame(ByteView(buffer).subspan(at, frame_size()), scan)) return;
    }
    if (got < buffer.size()) return;
  }
  scan.more = true;
}

bool WalFollower::accept_frame(ByteView frame, WalScan& scan) {
  if (committed_.frame + tail_.size() >= std::numeric_limits<uint32_t>::max() - 1) return false;
  WalChecksum checksum = tail_.empty() ? committed_.checksum : tail_.back().checksum;
  if (check_frame(frame, checksum) != Check::kValid) return false;
  const WalFrameHeader header = parse_wal_frame_header(frame);
  tail_.push_back({header.page, checksum});
  if (header.database_pages != 0) commit(header.database_pages, scan);
  return true;
}

void WalFollower::commit(uint32_t database_pages, WalScan& scan) {
  WalTransaction transaction;
  transaction.generation = generation_;
  transaction.salts = header_.salts;
  transaction.page_size = header_.page_size;
  transaction.first_frame = committed_.frame + 1;
  transaction.end_frame = committed_.frame + static_cast<uint32_t>(tail_.size());
  transaction.database_pages = database_pages;
  auto& pages = transaction.pages;
  pages.reserve(tail_.size());
  uint32_t frame = transaction.end_frame;
  for (auto at = tail_.rbegin(); at != tail_.rend(); ++at, --frame) {
    pages.push_back(
        {at->page, frame, wal_frame_offset(frame, header_.page_size) + kWalFrameHeaderSize});
  }
  // The last version of a page comes first among equals.
  std::stable_sort(pages.begin(), pages.end(),
                   [](const WalPage& a, const WalPage& b) { return a.number < b.number; });
  pages.erase(std::unique(pages.begin(), pages.end(),
                          [](const WalPage& a, const WalPage& b) { return a.number == b.number; }),
              pages.end());

  undo_.clear();
  for (const WalPage& page : pages) {
    const auto [entry, added] = overlay_.try_emplace(page.number, page.offset);
    undo_.push_back({page.number, added ? 0 : entry->second});
    entry->second = page.offset;
  }
  previous_ = committed_;
  committed_ = {transaction.end_frame, database_pages, tail_.back().checksum};
  tail_ = {};
  scan.transactions.push_back(std::move(transaction));
}

bool WalFollower::read_page(const ReadAt& read, uint32_t page, uint64_t offset,
                            std::span<uint8_t> into) const {
  if (!following_ || into.size() != header_.page_size) return false;
  if (offset < kWalHeaderSize + kWalFrameHeaderSize) return false;
  const uint64_t start = offset - kWalFrameHeaderSize;
  if ((start - kWalHeaderSize) % frame_size() != 0) return false;
  // The checksum of the frame before, or of the log's header, is what this frame continues.
  std::array<uint8_t, kWalFrameHeaderSize> raw{};
  WalChecksum checksum = header_.checksum;
  if (start > kWalHeaderSize) {
    if (read(start - frame_size(), raw) < raw.size()) return false;
    const WalFrameHeader before = parse_wal_frame_header(raw);
    if (before.salts != header_.salts) return false;
    checksum = before.checksum;
  }
  Bytes frame(frame_size());
  if (read(start, frame) < frame.size()) return false;
  if (parse_wal_frame_header(frame).page != page) return false;
  if (check_frame(frame, checksum) != Check::kValid) return false;
  std::copy(frame.begin() + kWalFrameHeaderSize, frame.end(), into.begin());
  return true;
}

}  // namespace walfs
