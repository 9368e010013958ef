#include "fs/tracking/attributes.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "replicator/base/bytes.h"
#include "replicator/change_codec.h"
#include "replicator/time.h"

namespace walfs {
namespace {

FileType type_of(mode_t mode) {
  if (S_ISDIR(mode)) return FileType::kDirectory;
  if (S_ISLNK(mode)) return FileType::kSymlink;
  if (S_ISFIFO(mode)) return FileType::kFifo;
  if (S_ISSOCK(mode)) return FileType::kSocket;
  if (S_ISCHR(mode)) return FileType::kCharacter;
  if (S_ISBLK(mode)) return FileType::kBlock;
  return FileType::kRegular;
}

bool restorable(std::string_view name) {
  return !name.starts_with("system.") || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

void read_xattrs(const std::string& alias, Attributes& attributes) {
  const ssize_t size = ::listxattr(alias.c_str(), nullptr, 0);
  if (size <= 0) return;
  std::string names(static_cast<size_t>(size), '\0');
  const ssize_t got = ::listxattr(alias.c_str(), names.data(), names.size());
  if (got <= 0) return;
  names.resize(static_cast<size_t>(got));
  std::string value(kXattrValueMax, '\0');
  for (size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) {
    const std::string name = names.c_str() + at;
    if (!restorable(name)) continue;
    const ssize_t length = ::getxattr(alias.c_str(), name.c_str(), value.data(), value.size());
    if (length >= 0)
      attributes.xattrs.emplace_back(name, value.substr(0, static_cast<size_t>(length)));
  }
  std::sort(attributes.xattrs.begin(), attributes.xattrs.end());
}

}  // namespace

std::optional<Attributes> read_attributes(int path_fd) {
  struct stat stat {};
  if (path_fd < 0 || ::fstat(path_fd, &stat) != 0) return std::nullopt;
  Attributes attributes;
  attributes.type = type_of(stat.st_mode);
  attributes.mode = stat.st_mode & 07777;
  attributes.uid = stat.st_uid;
  attributes.gid = stat.st_gid;
  attributes.rdev = stat.st_rdev;
  attributes.mtime_ns = stat.st_mtim.tv_sec * kNsPerSecond + stat.st_mtim.tv_nsec;
  if (attributes.type == FileType::kSymlink) {
    std::array<char, 4096> target{};
    const ssize_t size = ::readlinkat(path_fd, "", target.data(), target.size());
    if (size < 0) return std::nullopt;
    attributes.symlink_target.assign(target.data(), static_cast<size_t>(size));
  } else {
    read_xattrs("/proc/self/fd/" + std::to_string(path_fd), attributes);
  }
  return attributes;
}

}  // namespace walfs
