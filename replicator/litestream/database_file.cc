#include "replicator/litestream/database_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/database_header.h"
#include "replicator/base/file_io.h"
#include "replicator/base/wal_format.h"
#include "replicator/litestream/integrity.h"

namespace walfs::litestream {
namespace {

constexpr mode_t kMode = 0600;  // As Litestream makes it where it has no original to look at.

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
  WALFS_ASSIGN(FileDescriptor fd, open_unnamed(directory, "to restore with"));
  return FrameSpool(std::move(fd), page_size);
}

Status FrameSpool::lay_over(DatabaseFile& database, uint64_t frames, uint32_t pages) {
  WALFS_TRY(frames_.flush());
  const uint64_t frame_size = kWalFrameHeaderSize + page_size_;
  const uint64_t at_once = std::max<uint64_t>(1, kIoSize / frame_size);
  for (uint64_t done = 0; done < frames;) {
    const uint64_t count = std::min(at_once, frames - done);
    WALFS_ASSIGN(const Bytes read,
                 read_at(frames_.fd(), done * frame_size, count * frame_size, frames_.name()));
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
