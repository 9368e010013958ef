// Reading and writing the files of a restore or an export at given places, and in large pieces.
#pragma once

#include <cstdint>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

constexpr size_t kIoSize = 1 << 20;  // How much is read or written at once.

// `name` is for messages. All of the content, at the offset.
Status write_at(int fd, ByteView content, uint64_t offset, const std::string& name);
// Fewer bytes only at the end of the file.
Result<Bytes> read_at(int fd, uint64_t offset, size_t size, const std::string& name);

// A file in the open directory that has no name and is gone with its descriptor. `purpose` is for
// messages: "to restore with".
Result<FileDescriptor> open_unnamed(int directory, const std::string& purpose);
Result<FileDescriptor> open_unnamed(const std::string& directory, const std::string& purpose);

// Writes a file from its beginning to its end, kIoSize or a little more at once.
class FileAppender {
 public:
  FileAppender(FileDescriptor fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  Status add(ByteView content);
  Status flush();
  // With what is not flushed yet.
  uint64_t size() const { return flushed_ + buffer_.size(); }
  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }

 private:
  FileDescriptor fd_;
  std::string name_;
  Bytes buffer_;
  uint64_t flushed_ = 0;
};

}  // namespace walfs
