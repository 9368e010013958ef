#include "replicator/restore_attributes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/beneath.h"
#include "replicator/time.h"

namespace walfs {
namespace {

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
  int64_t seconds = time_ns / kNsPerSecond;
  int64_t rest = time_ns % kNsPerSecond;
  if (rest < 0) {
    rest += kNsPerSecond;
    --seconds;
  }
  return {seconds, rest};
}

}  // namespace

std::pair<std::string, std::string> split_path(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

Result<FileDescriptor> open_restored(int directory, const std::string& path, int flags,
                                     mode_t mode) {
  FileDescriptor opened = open_beneath(directory, path, flags | O_NOFOLLOW, mode);
  if (!opened.valid()) return error_from_errno("cannot restore " + path, errno);
  return opened;
}

Status create_special(int directory, const std::string& path, const Attributes& attributes) {
  const auto [parent, name] = split_path(path);
  WALFS_ASSIGN(const FileDescriptor inside,
               open_restored(directory, parent, O_RDONLY | O_DIRECTORY));
  const int failed =
      attributes.type == FileType::kSymlink
          ? ::symlinkat(attributes.symlink_target.c_str(), inside.get(), name.c_str())
          : ::mknodat(inside.get(), name.c_str(), type_bits(attributes.type) | 0600,
                      static_cast<dev_t>(attributes.rdev));
  if (failed != 0) return error_from_errno("cannot restore " + path, errno);
  return {};
}

namespace {

// What a file has of its own, as the ACL that it got from its directory; the system's stay.
Status remove_other_xattrs(const std::string& alias, const Attributes& attributes) {
  const ssize_t size = ::listxattr(alias.c_str(), nullptr, 0);
  if (size <= 0) return {};
  std::string names(static_cast<size_t>(size), '\0');
  const ssize_t got = ::listxattr(alias.c_str(), names.data(), names.size());
  for (size_t at = 0; got > 0 && at < static_cast<size_t>(got);) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    const bool wanted = std::any_of(attributes.xattrs.begin(), attributes.xattrs.end(),
                                    [&](const auto& xattr) { return xattr.first == name; });
    const bool own = name.starts_with("user.") || name.starts_with("trusted.") ||
                     name.starts_with("system.posix_acl");
    if (own && !wanted && ::removexattr(alias.c_str(), name.c_str()) != 0 && errno != ENODATA)
      return error_from_errno("cannot remove the extended attribute " + name, errno);
  }
  return {};
}

}  // namespace

Status set_attributes(int directory, const std::string& path, const Attributes& attributes) {
  const auto fail = [&](const char* what) {
    return error_from_errno(std::string("cannot set ") + what + " of " + path, errno);
  };
  WALFS_ASSIGN(const FileDescriptor file, open_restored(directory, path, O_PATH));
  if (::fchownat(file.get(), "", attributes.uid, attributes.gid,
                 AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
    return fail("the owner");
  }
  // An O_PATH descriptor has no name of its own but this one.
  const std::string alias = "/proc/self/fd/" + std::to_string(file.get());
  const bool is_symlink = attributes.type == FileType::kSymlink;
  if (!is_symlink) WALFS_TRY(remove_other_xattrs(alias, attributes));
  for (const auto& [name, value] : attributes.xattrs) {
    if (is_symlink)
      break;  // Only trusted.* and security.* can be there; no call reaches them by descriptor.
    if (::setxattr(alias.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) {
      return fail("an extended attribute");
    }
  }
  // After the attributes, which a file that may not be written to would refuse.
  if (!is_symlink && ::chmod(alias.c_str(), attributes.mode) != 0) return fail("the mode");
  const struct timespec time = to_timespec(attributes.mtime_ns);
  const struct timespec times[2] = {time, time};
  if (::utimensat(file.get(), "", times, AT_EMPTY_PATH) != 0 &&
      ::utimensat(AT_FDCWD, alias.c_str(), times, 0) != 0 && !is_symlink) {
    return fail("the times");
  }
  return {};
}

}  // namespace walfs
