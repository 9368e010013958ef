#include "replicator/locked_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace walfs {

Result<LockedDirectory> LockedDirectory::claim(
    const std::string& path, const std::function<bool(const std::string& name)>& is_ours,
    const std::string& busy) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return error_from_errno("cannot create " + path, errno);
  LockedDirectory claimed;
  claimed.path_ = path;
  claimed.fd_ =
      FileDescriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!claimed.valid()) return error_from_errno("cannot open " + path, errno);
  if (::flock(claimed.fd(), LOCK_EX | LOCK_NB) != 0) return Error{Errc::kConflict, busy};
  struct stat locked {};
  struct stat named {};
  // Whoever had it may have removed it between our open and our lock.
  if (::fstat(claimed.fd(), &locked) != 0 || ::lstat(path.c_str(), &named) != 0 ||
      locked.st_ino != named.st_ino || locked.st_dev != named.st_dev)
    return Error{Errc::kConflict, busy};
  const Error in_the_way{
      Errc::kConflict,
      path + " is in the way, and walfs has not left it there; give it another name"};
  if (locked.st_uid != ::geteuid()) return in_the_way;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(path, failed))
    if (!is_ours(entry.path().filename().string())) return in_the_way;
  if (failed) return error_from_errno("cannot look into " + path, failed.value());
  return claimed;
}

}  // namespace walfs
