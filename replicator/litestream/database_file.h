// The database file that a restore makes, and the frames of the log that is laid over it next.
#pragma once

#include <atomic>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/file_io.h"
#include "replicator/base/result.h"

namespace walfs::litestream {

class DatabaseFile {
 public:
  // Makes the file in the directory, for its owner only.
  static Result<DatabaseFile> create(int directory, const std::string& name);

  Status append(ByteView content);  // Of the snapshot, to the file's end.
  // The size of a page, by the header in the first page. kDamaged, naming `key`, if that is not the
  // header of a database.
  Result<uint32_t> read_page_size(const std::string& key) const;
  Status write_page(uint32_t page, ByteView content);
  Status set_pages(uint32_t pages, uint32_t page_size);
  // The header fits the file's size, and SQLite finds nothing wrong; then it is flushed. `what`
  // names the state in messages.
  Status finish(const std::string& what, const std::atomic<bool>* cancelled) const;
  uint64_t size() const { return size_; }

 private:
  DatabaseFile(FileDescriptor fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  FileDescriptor fd_;
  std::string name_;
  uint64_t size_ = 0;
};

// The frames of one log on disk: only its end tells which of them were committed.
class FrameSpool {
 public:
  // In the directory, without a name.
  static Result<FrameSpool> create(int directory, uint32_t page_size);
  Status add(ByteView frame) { return frames_.add(frame); }
  // Lays the first `frames` over the database, which has `pages` pages then, as a checkpoint does.
  Status lay_over(DatabaseFile& database, uint64_t frames, uint32_t pages);

 private:
  FrameSpool(FileDescriptor fd, uint32_t page_size)
      : frames_(std::move(fd), "the frames of a log"), page_size_(page_size) {}
  FileAppender frames_;
  uint32_t page_size_;
};

}  // namespace walfs::litestream
