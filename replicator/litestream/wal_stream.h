// Checks a write-ahead log that arrives in parts, as SQLite's recovery would: its header, and of
// every frame the salts and the checksum that continues that of the frame before. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"
#include "replicator/base/wal_format.h"

namespace walfs::litestream {

class WalStream {
 public:
  // Gets each frame, header and page, once it is known to be right.
  using FrameSink = std::function<Status(const WalFrameHeader&, ByteView frame)>;

  WalStream(uint32_t page_size, FrameSink sink) : page_size_(page_size), sink_(std::move(sink)) {}

  // The next bytes of the log; `key` names the object that they come from. kDamaged for whatever
  // SQLite would not accept.
  Status add(ByteView content, const std::string& key);

  uint64_t size() const { return size_; }                // Bytes so far.
  bool between_frames() const { return rest_.empty(); }  // No frame is incomplete.
  uint64_t frames() const { return frames_; }
  uint64_t committed_frames() const { return committed_frames_; }
  uint32_t database_pages() const { return database_pages_; }  // After the last commit.

 private:
  size_t next_size() const;
  Status take(ByteView whole, const std::string& key);
  Status take_header(ByteView bytes, const std::string& key);
  Status take_frame(ByteView frame, const std::string& key);

  const uint32_t page_size_;
  const FrameSink sink_;
  std::optional<WalHeader> header_;
  WalChecksum checksum_;  // Of the last frame.
  Bytes rest_;            // The beginning of what is not complete yet.
  uint64_t size_ = 0;
  uint64_t frames_ = 0;
  uint64_t committed_frames_ = 0;
  uint32_t database_pages_ = 0;
};

}  // namespace walfs::litestream
