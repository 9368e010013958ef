#include "replicator/base/file_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace walfs {
namespace {}  // namespace

Status write_at(int fd, ByteView content, uint64_t offset, const std::string& name) {
  while (!content.empty()) {
    const ssize_t put = ::pwrite(fd, content.data(), content.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return error_from_errno("cannot write " + name, errno);
    content = content.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Result<Bytes> read_at(int fd, uint64_t offset, size_t size, const std::string& name) {
  Bytes content(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(fd, content.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_from_errno("cannot read " + name, errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

Result<FileDescriptor> open_unnamed(int directory, const std::string& purpose) {
  FileDescriptor fd(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid() && (errno == EOPNOTSUPP || errno == EISDIR)) {
    // Not every filesystem has files without a name.
    const char* const name = ".walfs-unnamed";
    ::unlinkat(directory, name, 0);  // Of somebody who was killed.
    fd = FileDescriptor(::openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.valid()) ::unlinkat(directory, name, 0);
  }
  if (!fd.valid()) return error_from_errno("cannot create a file " + purpose, errno);
  return fd;
}

Result<FileDescriptor> open_unnamed(const std::string& directory, const std::string& purpose) {
  const FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return error_from_errno("cannot open " + directory, errno);
  return open_unnamed(fd.get(), purpose);
}

Status FileAppender::add(ByteView content) {
  buffer_.insert(buffer_.end(), content.begin(), content.end());
  return buffer_.size() < kIoSize ? Status() : flush();
}

Status FileAppender::flush() {
  WALFS_TRY(write_at(fd_.get(), buffer_, flushed_, name_));
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

}  // namespace walfs
