#include "replicator/restore_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace walfs {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::pair<std::string, std::string> split_path(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

mode_t type_bits(FileType type) {
  switch (type) {
    case FileType::kFifo:
      return S_IFIFO;
    case FileType::kSocket:
      return S_IFSOCK;
    case FileType::kCharacter:
      return S_IFCHR;
    case FileType::kBlock:
      return S_IFBLK;
    default:
      return S_IFREG;
  }
}

struct timespec to_timespec(int64_t time_ns) {
  int64_t seconds = time_ns / kSecond;
  int64_t rest = time_ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  return {seconds, rest};
}

}  // namespace

RestoredTree::RestoredTree(int directory, const RestorePlan& plan,
                           const std::vector<PlannedPath>& paths)
    : directory_(directory), plan_(plan), paths_(paths) {}

// Whatever a path says, it is resolved beneath our directory and through no symbolic link.
Result<FileDescriptor> RestoredTree::open_beneath(const std::string& path, int flags,
                                                  mode_t mode) const {
  struct open_how how {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const std::string name = path.empty() ? "." : path;
  const long fd = ::syscall(SYS_openat2, directory_, name.c_str(), &how, sizeof(how));
  if (fd < 0) return error_from_errno("cannot restore " + path, errno);
  return FileDescriptor(static_cast<int>(fd));
}

Status RestoredTree::create() {
  for (const PlannedPath& path : paths_) WALFS_TRY(create_one(path));
  return {};
}

Status RestoredTree::create_one(const PlannedPath& path) {
  const PlannedFile& planned = plan_.files.at(path.id);
  if (path.path.empty()) return {};
  const auto [parent, name] = split_path(path.path);
  if (planned.attributes.type == FileType::kDirectory) {
    WALFS_ASSIGN(const FileDescriptor directory, open_beneath(parent, O_RDONLY | O_DIRECTORY));
    if (::mkdirat(directory.get(), name.c_str(), 0700) != 0) {
      return error_from_errno("cannot restore " + path.path, errno);
    }
    return {};
  }
  if (planned.attributes.type != FileType::kRegular || files_.contains(path.id)) return {};
  WALFS_ASSIGN(const FileDescriptor file, open_beneath(path.path, O_RDWR | O_CREAT | O_EXCL, 0600));
  if (::ftruncate(file.get(), static_cast<off_t>(planned.size)) != 0) {
    return error_from_errno("cannot restore " + path.path, errno);
  }
  auto entry = std::make_unique<File>();
  entry->path = path.path;
  entry->planned = &planned;
  files_.emplace(path.id, std::move(entry));
  return {};
}

Result<std::shared_ptr<FileDescriptor>> RestoredTree::open_for_writing(File& file) {
  constexpr size_t kOpenMax = 64;
  const std::scoped_lock lock(mutex_);
  if (file.opened == nullptr) {
    WALFS_ASSIGN(FileDescriptor fd, open_beneath(file.path, O_WRONLY));
    file.opened = std::make_shared<FileDescriptor>(std::move(fd));
    opened_.push_back(&file);
    if (opened_.size() > kOpenMax) {
      opened_.front()->opened.reset();
      opened_.pop_front();
    }
  }
  return file.opened;
}

Status RestoredTree::write_block(FileId id, uint64_t index, ByteView data,
                                 std::optional<uint64_t> hash) {
  File& file = *files_.at(id);
  const uint32_t block_size = file.planned->block_size;
  const uint64_t offset = index * block_size;
  const uint64_t actual = block_hash(index, data, block_size);
  if (hash && actual != *hash) {
    return Error{Errc::kDamaged, "the replica is damaged: block " + std::to_string(index) + " of " +
                                     file.path + " fails its checksum"};
  }
  file.checksum += actual;
  if (actual == kZeroBlockHash || offset >= file.planned->size) return {};
  const uint64_t size = std::min<uint64_t>(data.size(), file.planned->size - offset);
  WALFS_ASSIGN(const auto fd, open_for_writing(file));
  uint64_t done = 0;
  while (done < size) {
    const ssize_t n =
        ::pwrite(fd->get(), data.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return error_from_errno("cannot write " + file.path, errno);
    done += static_cast<uint64_t>(n);
  }
  return {};
}

Status RestoredTree::verify() const {
  for (const auto& [id, file] : files_) {
    if (!file->planned->checksum || *file->planned->checksum == file->checksum) continue;
    return Error{Errc::kDamaged,
                 "the replica is damaged: " + file->path +
                     " does not have the checksum that it should have at this position"};
  }
  return {};
}

Status RestoredTree::create_special(const std::string& path, const Attributes& attributes) {
  const auto [parent, name] = split_path(path);
  WALFS_ASSIGN(const FileDescriptor directory, open_beneath(parent, O_RDONLY | O_DIRECTORY));
  const int failed =
      attributes.type == FileType::kSymlink
          ? ::symlinkat(attributes.symlink_target.c_str(), directory.get(), name.c_str())
          : ::mknodat(directory.get(), name.c_str(), type_bits(attributes.type) | 0600,
                      static_cast<dev_t>(attributes.rdev));
  if (failed != 0) return error_from_errno("cannot restore " + path, errno);
  return {};
}

Status RestoredTree::set_attributes(const std::string& path, const Attributes& attributes) {
  const auto fail = [&](const char* what) {
    return error_from_errno(std::string("cannot set ") + what + " of " + path, errno);
  };
  WALFS_ASSIGN(const FileDescriptor file, open_beneath(path, O_PATH));
  if (::fchownat(file.get(), "", attributes.uid, attributes.gid,
                 AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
    return fail("the owner");
  }
  // An O_PATH descriptor has no name of its own but this one.
  const std::string alias = "/proc/self/fd/" + std::to_string(file.get());
  const bool is_symlink = attributes.type == FileType::kSymlink;
  if (!is_symlink && ::chmod(alias.c_str(), attributes.mode) != 0) return fail("the mode");
  for (const auto& [name, value] : attributes.xattrs) {
    if (is_symlink)
      break;  // Only trusted.* and security.* can be there; no call reaches them by descriptor.
    if (::setxattr(alias.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) {
      return fail("an extended attribute");
    }
  }
  const struct timespec time = to_timespec(attributes.mtime_ns);
  const struct timespec times[2] = {time, time};
  if (::utimensat(file.get(), "", times, AT_EMPTY_PATH) != 0 &&
      ::utimensat(AT_FDCWD, alias.c_str(), times, 0) != 0 && !is_symlink) {
    return fail("the times");
  }
  return {};
}

Status RestoredTree::finish() {
  std::map<FileId, std::string> made;
  for (const auto& [id, file] : files_) made.emplace(id, file->path);
  for (const PlannedPath& path : paths_) {
    const PlannedFile& planned = plan_.files.at(path.id);
    if (path.path.empty() || planned.attributes.type == FileType::kDirectory) continue;
    const auto [first, added] = made.emplace(path.id, path.path);
    if (added) {
      WALFS_TRY(create_special(path.path, planned.attributes));
    } else if (first->second != path.path) {
      const auto [parent, name] = split_path(path.path);
      WALFS_ASSIGN(const FileDescriptor directory, open_beneath(parent, O_RDONLY | O_DIRECTORY));
      if (::linkat(directory_, first->second.c_str(), directory.get(), name.c_str(), 0) != 0) {
        return error_from_errno("cannot restore the hard link " + path.path, errno);
      }
    }
  }
  // Children before their directories, whose times would change again otherwise.
  for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) {
    WALFS_TRY(set_attributes(path->path, plan_.files.at(path->id).attributes));
  }
  if (::syncfs(directory_) != 0) return error_from_errno("cannot flush the restored files", errno);
  return {};
}

}  // namespace walfs
