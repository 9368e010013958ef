#include "replicator/restore_target.h"

#include <fcntl.h>
#include <sys/file.h>
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
constexpr const char* kProofs = "walfs-proofs";
constexpr const char* kFiles = "files";

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

Result<std::string> target_path(const std::string& path, const TargetWords& words) {
  const std::string verb = words.verb;
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

Result<RestoreDirectory> RestoreDirectory::open(const std::string& path, bool force,
                                                const TargetWords& words) {
  RestoreDirectory target(words);
  const std::string verb = words.verb;
  WALFS_ASSIGN(target.path_, target_path(path, words));
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
  if (temporary_.empty() || keep_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

// Opens and locks what has the name; its owner's kill or end gives it free.
Status RestoreDirectory::open_temporary() {
  const std::string& name = temporary_;
  if (::mkdir(name.c_str(), 0700) != 0 && errno != EEXIST)
    return error_from_errno("cannot create " + name, errno);
  lock_ = FileDescriptor(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock_.valid()) return error_from_errno("cannot open " + name, errno);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{Errc::kConflict,
                 std::string("another ") + words_.verb + " to " + path_ + " is under way"};
  struct stat locked {};
  struct stat named {};
  if (::fstat(lock_.get(), &locked) != 0 || ::lstat(name.c_str(), &named) != 0 ||
      locked.st_ino != named.st_ino)
    return Error{Errc::kConflict, std::string("another ") + words_.verb + " to " + path_ +
                                      " has just ended; try again"};
  std::error_code unreadable;
  const bool is_ours =
      locked.st_uid == ::geteuid() && (::faccessat(lock_.get(), kProofs, F_OK, 0) == 0 ||
                                       (fs::is_empty(name, unreadable) && !unreadable));
  if (!is_ours)
    return Error{Errc::kConflict, name + " is in the way, and no " + words_.verb +
                                      " has left it there; give it another name"};
  return {};
}

Status RestoreDirectory::begin() {
  temporary_ = path_ + "." + words_.doing;
  keep_ = true;  // It may be somebody else's.
  WALFS_TRY(open_temporary());
  keep_ = false;
  WALFS_TRY(open_proofs());
  has_earlier_content_ = ::mkdirat(lock_.get(), kFiles, 0700) != 0;
  if (has_earlier_content_ && errno != EEXIST)
    return error_from_errno("cannot create " + files_path(), errno);
  files_ = FileDescriptor(
      ::openat(lock_.get(), kFiles, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!files_.valid() || ::fchmod(files_.get(), 0700) != 0)
    return error_from_errno("cannot open " + files_path(), errno);
  return {};
}

Status RestoreDirectory::remove_earlier_content() {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(files_path(), failed)) {
    fs::remove_all(entry.path(), failed);
    if (failed) break;
  }
  if (failed) return error_from_errno("cannot clear " + files_path(), failed.value());
  has_earlier_content_ = false;
  return {};
}

Result<FileDescriptor> RestoreDirectory::open_proofs() const {
  FileDescriptor proofs(
      ::openat(lock_.get(), kProofs, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!proofs.valid()) return error_from_errno("cannot open " + temporary_ + "/" + kProofs, errno);
  return proofs;
}

const std::string& RestoreDirectory::keep() {
  keep_ = true;
  return temporary_;
}

// For filesystems that cannot exchange two names, and for a target that is not there.
Status RestoreDirectory::step_aside_and_rename() {
  const std::string aside = path_ + ".replaced-" + random_token().substr(0, 8);
  if (exists_ && ::rename(path_.c_str(), aside.c_str()) != 0) {
    return error_from_errno("cannot replace " + path_, errno);
  }
  if (::rename(files_path().c_str(), path_.c_str()) != 0) {
    Error error = error_from_errno(
        std::string("cannot rename the ") + words_.done + " directory to " + path_, errno);
    if (exists_) ::rename(aside.c_str(), path_.c_str());
    return error;
  }
  if (exists_ && ::rename(aside.c_str(), files_path().c_str()) != 0)
    return error_from_errno(
        std::string("the directory is ") + words_.done + ", and the old one is " + aside, errno);
  return {};
}

Status RestoreDirectory::commit() {
  // What stands there changes places with the new directory, so that one of the two is there at any
  // time.
  if (!exists_ || !exchange_names(files_path(), path_)) {
    if (exists_ && errno != EINVAL) return error_from_errno("cannot replace " + path_, errno);
    WALFS_TRY(step_aside_and_rename());
  }
  const std::string done = std::exchange(temporary_, {});
  const FileDescriptor parent(
      ::open(fs::path(path_).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0) {
    return error_from_errno(
        std::string("the directory is ") + words_.done + ", but its name could not be flushed",
        errno);
  }
  std::error_code failed;
  fs::remove_all(done, failed);
  if (failed) {
    return Error{Errc::kIo, std::string("the directory is ") + words_.done +
                                ", but what was there before could not be removed: " + done};
  }
  return {};
}

}  // namespace walfs
