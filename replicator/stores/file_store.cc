#include "replicator/stores/file_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "replicator/base/beneath.h"
#include "replicator/base/digest.h"
#include "replicator/stores/file_list.h"
#include "replicator/stores/object_body.h"
#include "replicator/stores/object_key.h"

namespace walfs {
namespace {

constexpr const char* kTemporary = ".tmp";
constexpr mode_t kDirectoryMode = 0700;  // A replica holds all that the application stores.
constexpr mode_t kFileMode = 0600;
constexpr size_t kCopySize = 256 * 1024;
constexpr time_t kLeftoverAgeS = 24 * 3600;

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// mkdir -p of an absolute path, each new name flushed.
Status make_path(const std::string& path) {
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    const std::string directory = path.substr(0, slash);
    if (mkdir(directory.c_str(), kDirectoryMode) != 0) {
      struct stat attributes {};
      if (stat(directory.c_str(), &attributes) == 0 && S_ISDIR(attributes.st_mode)) continue;
      return error_from_errno("cannot create the directory " + directory, errno);
    }
    const std::string parent = parent_of(directory);
    const FileDescriptor fd(
        open(parent.empty() ? "/" : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0) {
      return error_from_errno("cannot flush the directory " + parent, errno);
    }
  }
  return {};
}

Status write_body(int fd, const ObjectBody& body, const std::string& name) {
  Bytes buffer(static_cast<size_t>(std::min<uint64_t>(body.size, kCopySize)));
  for (uint64_t at = 0; at < body.size;) {
    const std::span<uint8_t> piece(
        buffer.data(), static_cast<size_t>(std::min<uint64_t>(buffer.size(), body.size - at)));
    WALFS_TRY(read_body(body, at, piece));
    for (size_t done = 0; done < piece.size();) {
      const ssize_t put = write(fd, piece.data() + done, piece.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return error_from_errno("cannot write " + name, errno);
      done += static_cast<size_t>(put);
    }
    at += piece.size();
  }
  if (fsync(fd) != 0) return error_from_errno("cannot flush " + name, errno);
  return {};
}

// A file under .tmp/ that is removed again unless it was moved to its place.
class TemporaryFile {
 public:
  static Result<TemporaryFile> create(int root) {
    uint8_t random[16] = {};
    if (getrandom(random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) {
      return error_from_errno("cannot get a random number", errno);
    }
    std::string name = std::string(kTemporary) + "/" + to_hex(random);
    FileDescriptor fd = open_beneath(root, name, O_WRONLY | O_CREAT | O_EXCL, kFileMode);
    if (!fd.valid()) return error_from_errno("cannot create a file in the replica", errno);
    return TemporaryFile(root, std::move(name), std::move(fd));
  }
  ~TemporaryFile() {
    if (fd_.valid() && !moved_) unlinkat(root_, name_.c_str(), 0);
  }
  TemporaryFile(TemporaryFile&&) = default;
  TemporaryFile& operator=(TemporaryFile&&) = delete;

  int fd() const { return fd_.get(); }

  // 0, or errno: EEXIST when the target exists and may not be replaced.
  int move_to(int directory, const std::string& name, PutMode mode) {
    if (mode == PutMode::kPlain) {
      moved_ = renameat(root_, name_.c_str(), directory, name.c_str()) == 0;
      return moved_ ? 0 : errno;
    }
    moved_ = renameat2(root_, name_.c_str(), directory, name.c_str(), RENAME_NOREPLACE) == 0;
    if (moved_) return 0;
    // Not every file system can do that; link() has the same single winner.
    if (errno != EINVAL && errno != ENOSYS) return errno;
    return linkat(root_, name_.c_str(), directory, name.c_str(), 0) == 0 ? 0 : errno;
  }

 private:
  TemporaryFile(int root, std::string name, FileDescriptor fd)
      : root_(root), name_(std::move(name)), fd_(std::move(fd)) {}
  int root_;
  std::string name_;
  FileDescriptor fd_;
  bool moved_ = false;
};

}  // namespace

Result<std::unique_ptr<Store>> open_file_store(const std::string& path, bool create) {
  FileDescriptor root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid() && errno == ENOENT && create) {
    WALFS_TRY(make_path(path));
    root = FileDescriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  if (!root.valid()) {
    const int error = errno;
    if (error == ENOENT) {
      return Error{Errc::kNothingThere, "the replica's directory " + path + " does not exist"};
    }
    if (error == ENOTDIR) return Error{Errc::kUsage, path + " is not a directory"};
    return error_from_errno("cannot open the replica's directory " + path, error);
  }
  auto store = std::make_unique<FileStore>(path, std::move(root));
  if (create) store->sweep();
  return std::unique_ptr<Store>(std::move(store));
}

void FileStore::sweep() {
  FileDescriptor fd = open_beneath(root_.get(), kTemporary, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return;
  remove_files_older_than(std::move(fd), time(nullptr) - kLeftoverAgeS);
}

// Opens the directory of keys and makes it if needed. Its own name and those above it are durable
// when this returns, even if another thread made them a moment ago.
Result<FileDescriptor> FileStore::make_directory(const std::string& path) {
  FileDescriptor fd = open_beneath(root_.get(), path, O_RDONLY | O_DIRECTORY);
  const std::lock_guard lock(mutex_);
  if (fd.valid() && (path.empty() || durable_directories_.contains(path))) return fd;
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    const std::string directory = path.substr(0, slash);
    if (mkdirat(root_.get(), directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
      return error_from_errno("cannot create the directory " + name(directory), errno);
    }
    const FileDescriptor parent =
        open_beneath(root_.get(), parent_of(directory), O_RDONLY | O_DIRECTORY);
    if (!parent.valid() || fsync(parent.get()) != 0) {
      return error_from_errno("cannot flush the directory above " + name(directory), errno);
    }
    durable_directories_.insert(directory);
  }
  fd = open_beneath(root_.get(), path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return error_from_errno("cannot open the directory " + name(path), errno);
  return fd;
}

Status FileStore::put(const std::string& key, const ObjectBody& body, PutMode mode) {
  WALFS_TRY(check_key(key));
  WALFS_ASSIGN(const FileDescriptor directory, make_directory(parent_of(key)));
  const auto conflict = [&] {
    return Error{Errc::kConflict, "cannot write " + name(key) + ": it is there already"};
  };
  if (mode == PutMode::kIfAbsent &&
      faccessat(directory.get(), last_part(key).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return conflict();  // Seen before the body is copied; the rename decides.
  }
  WALFS_ASSIGN(const FileDescriptor temporary_directory, make_directory(kTemporary));
  WALFS_ASSIGN(TemporaryFile file, TemporaryFile::create(root_.get()));
  WALFS_TRY(write_body(file.fd(), body, name(key)));
  const int error = file.move_to(directory.get(), last_part(key), mode);
  if (error == EEXIST) return conflict();
  if (error != 0) return error_from_errno("cannot put " + name(key) + " into place", error);
  if (fsync(directory.get()) != 0) {
    return error_from_errno("cannot flush the directory of " + name(key), errno);
  }
  return {};
}

Result<FileDescriptor> FileStore::open_object(const std::string& key, uint64_t& size) {
  WALFS_TRY(check_key(key));
  // O_NONBLOCK: a pipe in the replica must not hold us up.
  FileDescriptor fd = open_beneath(root_.get(), key, O_RDONLY | O_NONBLOCK);
  if (!fd.valid()) {
    const int error = errno;
    if (error == ELOOP) {
      return Error{Errc::kDamaged, name(key) + " is reached through a symlink; none is followed"};
    }
    return error_from_errno("cannot open " + name(key), error);
  }
  struct stat attributes {};
  if (fstat(fd.get(), &attributes) != 0)
    return error_from_errno("cannot look at " + name(key), errno);
  if (!S_ISREG(attributes.st_mode)) {
    return Error{Errc::kNothingThere, name(key) + " is not a file"};
  }
  size = static_cast<uint64_t>(attributes.st_size);
  return fd;
}

Result<Bytes> FileStore::read(const FileDescriptor& file, const std::string& key, ByteRange range) {
  Bytes bytes(range.size);
  const auto status =
      read_body(ObjectBody::of_file(file.get(), range.offset, range.size), 0, bytes);
  if (!status.ok()) {
    return Error{status.error().code, "cannot read " + name(key) + ": " + status.error().message};
  }
  return bytes;
}

Result<Bytes> FileStore::get(const std::string& key, uint64_t max_size) {
  uint64_t size = 0;
  WALFS_ASSIGN(const FileDescriptor file, open_object(key, size));
  if (size > max_size) {
    return Error{Errc::kDamaged, "cannot read " + name(key) + ": it is longer than it may be"};
  }
  return read(file, key, {0, size});
}

Result<Bytes> FileStore::get_range(const std::string& key, ByteRange range) {
  uint64_t size = 0;
  WALFS_ASSIGN(const FileDescriptor file, open_object(key, size));
  if (range.offset > size || range.size > size - range.offset) {
    return Error{Errc::kDamaged,
                 "cannot read a part of " + name(key) + ": it is shorter than expected"};
  }
  return read(file, key, range);
}

Result<ObjectInfo> FileStore::head(const std::string& key) {
  uint64_t size = 0;
  WALFS_ASSIGN(const FileDescriptor file, open_object(key, size));
  return ObjectInfo{key, size, 0};
}

Result<std::vector<ObjectInfo>> FileStore::list(const std::string& prefix, const std::string& after,
                                                size_t limit) {
  WALFS_TRY(check_key_prefix(prefix));
  return list_files(root_.get(), prefix, after, limit);
}

Status FileStore::remove(const std::string& key) {
  WALFS_TRY(check_key(key));
  const FileDescriptor directory =
      open_beneath(root_.get(), parent_of(key), O_RDONLY | O_DIRECTORY);
  const bool done = directory.valid() && unlinkat(directory.get(), last_part(key).c_str(), 0) == 0;
  if (done || errno == ENOENT || errno == ENOTDIR) return {};
  return error_from_errno("cannot remove " + name(key), errno);
}

}  // namespace walfs
