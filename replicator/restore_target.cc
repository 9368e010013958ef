#include "replicator/restore_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "replicator/epoch.h"

namespace walfs {
namespace {

namespace fs = std::filesystem;

constexpr long kFuseMagic = 0x65735546;

// The target with its parent's symbolic links resolved; the last part may not exist yet.
Result<std::string> absolute_path(const std::string& path, const std::string& verb) {
  if (path.empty()) return Error{Errc::kUsage, "the directory to " + verb + " to has no name"};
  std::string clean = fs::path(path).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  const std::unique_ptr<char, decltype(&std::free)> whole(::realpath(clean.c_str(), nullptr),
                                                          &std::free);
  if (whole) return std::string(whole.get());
  if (errno != ENOENT) return error_from_errno("cannot " + verb + " to " + path, errno);
  const fs::path parent = fs::path(clean).parent_path();
  const std::string parent_name = parent.empty() ? "." : parent.string();
  const std::unique_ptr<char, decltype(&std::free)> resolved(
      ::realpath(parent_name.c_str(), nullptr), &std::free);
  if (!resolved) {
    return Error{Errc::kUsage, "cannot " + verb + " to " + path + ": the directory " + parent_name +
                                   " does not exist"};
  }
  return (fs::path(resolved.get()) / fs::path(clean).filename()).string();
}

bool on_fuse(const std::string& directory) {
  struct statfs filesystem {};
  return ::statfs(directory.c_str(), &filesystem) == 0 && filesystem.f_type == kFuseMagic;
}

bool is_mount_point(const std::string& path) {
  struct stat own {};
  struct stat parent {};
  return ::stat(path.c_str(), &own) == 0 && ::stat((path + "/..").c_str(), &parent) == 0 &&
         (own.st_dev != parent.st_dev || own.st_ino == parent.st_ino);
}

bool exchange_names(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

Result<RestoreDirectory> RestoreDirectory::open(const std::string& path, bool force,
                                                const TargetWords& words) {
  RestoreDirectory target(words);
  const std::string verb = words.verb;
  WALFS_ASSIGN(target.path_, absolute_path(path, verb));
  const std::string parent = fs::path(target.path_).parent_path().string();
  struct stat attributes {};
  target.exists_ = ::lstat(target.path_.c_str(), &attributes) == 0;
  if (target.exists_ && !S_ISDIR(attributes.st_mode)) {
    return Error{Errc::kUsage, target.path_ + " is a file; name a directory to " + verb + " to"};
  }
  if (on_fuse(target.exists_ ? target.path_ : parent)) {
    return Error{Errc::kUsage, target.path_ +
                                   " lies inside a mount that may be the replicated one; " + verb +
                                   " to a directory outside of it, or unmount it first"};
  }
  if (!target.exists_) return target;
  if (is_mount_point(target.path_)) {
    return Error{Errc::kUsage, target.path_ + " is a mount point, which cannot be replaced; " +
                                   verb + " to a directory inside it"};
  }
  std::error_code failed;
  const bool empty = fs::is_empty(target.path_, failed);
  if (failed) return error_from_errno("cannot look into " + target.path_, failed.value());
  if (!empty && !force) {
    return Error{Errc::kUsage, target.path_ + " is not empty; " + words.instead};
  }
  return target;
}

RestoreDirectory::~RestoreDirectory() {
  if (temporary_.empty()) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

Status RestoreDirectory::begin() {
  temporary_ = path_ + "." + words_.doing + "-" + random_token().substr(0, 8);
  if (::mkdir(temporary_.c_str(), 0700) != 0) {
    Error error = error_from_errno("cannot create " + temporary_, errno);
    temporary_.clear();
    return error;
  }
  fd_ = FileDescriptor(::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd_.valid()) return error_from_errno("cannot open " + temporary_, errno);
  return {};
}

// For filesystems that cannot exchange two names, and for a target that is not there.
Status RestoreDirectory::step_aside_and_rename() {
  const std::string aside = path_ + ".replaced-" + random_token().substr(0, 8);
  if (exists_ && ::rename(path_.c_str(), aside.c_str()) != 0) {
    return error_from_errno("cannot replace " + path_, errno);
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    Error error = error_from_errno(
        std::string("cannot rename the ") + words_.done + " directory to " + path_, errno);
    if (exists_) ::rename(aside.c_str(), path_.c_str());
    return error;
  }
  temporary_ = aside;
  return {};
}

Status RestoreDirectory::commit() {
  // What stands there changes places with the new directory, so that one of the two is there at any
  // time.
  if (!exists_ || !exchange_names(temporary_, path_)) {
    if (exists_ && errno != EINVAL) return error_from_errno("cannot replace " + path_, errno);
    WALFS_TRY(step_aside_and_rename());
  }
  const std::string old = std::exchange(temporary_, {});
  const FileDescriptor parent(
      ::open(fs::path(path_).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0) {
    return error_from_errno(
        std::string("the directory is ") + words_.done + ", but its name could not be flushed",
        errno);
  }
  if (!exists_) return {};
  std::error_code failed;
  fs::remove_all(old, failed);
  if (failed) {
    return Error{Errc::kIo, std::string("the directory is ") + words_.done +
                                ", but the old one could not be removed: " + old};
  }
  return {};
}

}  // namespace walfs
