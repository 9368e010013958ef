#include "replicator/litestream/wal_stream.h"

#include <algorithm>

namespace walfs::litestream {
namespace {}  // namespace

size_t WalStream::next_size() const {
  return header_ ? kWalFrameHeaderSize + page_size_ : kWalHeaderSize;
}

Status WalStream::add(ByteView content, const std::string& key) {
  size_ += content.size();
  while (!content.empty()) {
    if (rest_.empty() && content.size() >= next_size()) {
      const size_t size = next_size();
      WALFS_TRY(take(content.first(size), key));
      content = content.subspan(size);
      continue;
    }
    const size_t part = std::min(next_size() - rest_.size(), content.size());
    rest_.insert(rest_.end(), content.begin(), content.begin() + static_cast<std::ptrdiff_t>(part));
    content = content.subspan(part);
    if (rest_.size() < next_size()) continue;
    WALFS_TRY(take(rest_, key));
    rest_.clear();
  }
  return {};
}

Status WalStream::take(ByteView whole, const std::string& key) {
  return header_ ? take_frame(whole, key) : take_header(whole, key);
}

Status WalStream::take_header(ByteView bytes, const std::string& key) {
  header_ = parse_wal_header(bytes);
  if (!header_) return damaged(key, "it does not begin with the header of a write-ahead log");
  if (header_->page_size != page_size_)
    return damaged(key, "its pages have another size than those of the database");
  checksum_ = header_->checksum;
  return {};
}

Status WalStream::take_frame(ByteView frame, const std::string& key) {
  const WalFrameHeader header = parse_wal_frame_header(frame);
  if (header.salts != header_->salts)
    return damaged(key, "a frame has the salts of another write-ahead log");
  checksum_ = wal_frame_checksum(frame, checksum_, header_->big_endian_checksum);
  if (checksum_ != header.checksum) return damaged(key, "a frame fails its checksum");
  if (header.page == 0) return damaged(key, "a frame is for no page");
  WALFS_TRY(sink_(header, frame));
  ++frames_;
  if (header.database_pages != 0) {
    committed_frames_ = frames_;
    database_pages_ = header.database_pages;
  }
  return {};
}

}  // namespace walfs::litestream
