#include "replicator/litestream/database_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/database_header.h"
#include "replicator/base/wal_format.h"
#include "replicator/litestream/integrity.h"

namespace walfs::litestream {
namespace {

constexpr mode_t kMode = 0600;  // As Litestream makes it where it has no original to look at.
constexpr size_t kSpoolBufferSize = 1 << 20;

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

// Fewer bytes only at the end of the file.
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

}  // namespace

Result<DatabaseFile> DatabaseFile::create(int directory, const std::string& name) {
  FileDescriptor fd(
      ::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kMode));
  if (!fd.valid()) return error_from_errno("cannot create " + name, errno);
  return DatabaseFile(std::move(fd), name);
}

Status DatabaseFile::append(ByteView content) {
  WALFS_TRY(write_at(fd_.get(), content, size_, name_));
  size_ += content.size();
  return {};
}

Result<uint32_t> DatabaseFile::read_page_size(const std::string& key) const {
  WALFS_ASSIGN(const Bytes first, read_at(fd_.get(), 0, kDatabaseHeaderSize, name_));
  const auto header = parse_database_header(first);
  if (!header) return Error{Errc::kDamaged, key + " is damaged: it is no SQLite database"};
  return header->page_size;
}

Status DatabaseFile::write_page(uint32_t page, ByteView content) {
  const uint64_t offset = uint64_t{page - 1} * content.size();
  WALFS_TRY(write_at(fd_.get(), content, offset, name_));
  size_ = std::max(size_, offset + content.size());
  return {};
}

Status DatabaseFile::set_pages(uint32_t pages, uint32_t page_size) {
  size_ = uint64_t{pages} * page_size;
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) == 0) return {};
  return error_from_errno("cannot set the size of " + name_, errno);
}

Status DatabaseFile::finish(const std::string& what, const std::atomic<bool>* cancelled) const {
  WALFS_ASSIGN(const Bytes first, read_at(fd_.get(), 0, kDatabaseHeaderSize, name_));
  const auto header = parse_database_header(first);
  if (!header || size_ % header->page_size != 0 ||
      header->page_count.value_or(0) > size_ / header->page_size) {
    return Error{Errc::kDamaged,
                 what + " is damaged: the database's header does not fit its size of " +
                     std::to_string(size_) + " bytes"};
  }
  WALFS_TRY(check_integrity(fd_.get(), what, cancelled));
  if (::fsync(fd_.get()) != 0) return error_from_errno("cannot flush " + name_, errno);
  return {};
}

Result<FrameSpool> FrameSpool::create(int directory, uint32_t page_size) {
  FileDescriptor fd(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid() && (errno == EOPNOTSUPP || errno == EISDIR)) {
    // Not every filesystem has files without a name.
    const char* const name = ".walfs-frames";
    fd = FileDescriptor(::openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.valid()) ::unlinkat(directory, name, 0);
  }
  if (!fd.valid()) return error_from_errno("cannot create a file to restore with", errno);
  return FrameSpool(std::move(fd), page_size);
}

Status FrameSpool::add(ByteView frame) {
  buffer_.insert(buffer_.end(), frame.begin(), frame.end());
  return buffer_.size() < kSpoolBufferSize ? Status() : flush();
}

Status FrameSpool::flush() {
  WALFS_TRY(write_at(fd_.get(), buffer_, flushed_, "the frames of a log"));
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

Status FrameSpool::lay_over(DatabaseFile& database, uint64_t frames, uint32_t pages) {
  WALFS_TRY(flush());
  const uint64_t frame_size = kWalFrameHeaderSize + page_size_;
  const uint64_t at_once = std::max<uint64_t>(1, kSpoolBufferSize / frame_size);
  for (uint64_t done = 0; done < frames;) {
    const uint64_t count = std::min(at_once, frames - done);
    WALFS_ASSIGN(const Bytes read,
                 read_at(fd_.get(), done * frame_size, count * frame_size, "the frames of a log"));
    if (read.size() != count * frame_size)
      return Error{Errc::kIo, "the frames of a log are not all there any more"};
    for (uint64_t i = 0; i < count; ++i) {
      const ByteView frame = ByteView(read).subspan(i * frame_size, frame_size);
      const uint32_t page = parse_wal_frame_header(frame).page;
      // A later commit has cut off what lies behind the end, and SQLite never writes the lock page.
      if (page > pages || page == lock_page(page_size_)) continue;
      WALFS_TRY(database.write_page(page, frame.subspan(kWalFrameHeaderSize)));
    }
    done += count;
  }
  return database.set_pages(pages, page_size_);
}

}  // namespace walfs::litestream
