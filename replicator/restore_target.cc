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
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

#include "replicator/epoch.h"

namespace walfs {
namespace {

namespace fs = std::filesystem;

constexpr long kFuseMagic = 0x65735546;
constexpr const char* kProofs = "walfs-proofs";
constexpr const char* kFiles = "walfs-files";
constexpr std::string_view kFileUrl = "file://";

bool on_fuse(const std::string& directory) {
  struct statfs filesystem {};
  return ::statfs(directory.c_str(), &filesystem) == 0 && filesystem.f_type == kFuseMagic;
}

bool lies_in(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory == "/" ? directory : directory + "/");
}

// As /proc/self/mountinfo has it: space, tab, newline and backslash as octal numbers.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::strtoul(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// A mount point at the directory or beneath it; "" if there is none.
std::string mounted_in(const std::string& directory) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    std::string point = unescaped(field);
    if (point != "/" && lies_in(point, directory)) return point;
  }
  return "";
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
                                                const Store& store, const TargetWords& words) {
  RestoreDirectory target(words);
  const std::string verb = words.verb;
  target.force_ = force;
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
  const std::string mounted = mounted_in(target.path_);
  if (mounted == target.path_) {
    return Error{Errc::kUsage, target.path_ + " is a mount point, which cannot be replaced; " +
                                   verb + " to a directory inside it"};
  }
  if (!mounted.empty()) {
    return Error{Errc::kUsage, mounted + " is mounted inside " + target.path_ +
                                   ", which cannot be replaced therefore; unmount it, or " + verb +
                                   " to another directory"};
  }
  const std::string url = store.describe();
  std::error_code failed;
  if (url.starts_with(kFileUrl) &&
      lies_in(fs::weakly_canonical(url.substr(kFileUrl.size()), failed).string(), target.path_)) {
    return Error{Errc::kUsage, "the replica " + url + " lies in " + target.path_ + "; " + verb +
                                   " to a directory outside of it"};
  }
  const bool empty = fs::is_empty(target.path_, failed);
  if (failed) return error_from_errno("cannot look into " + target.path_, failed.value());
  if (!empty && !force) {
    return Error{Errc::kUsage, target.path_ + " is not empty; " + words.instead};
  }
  return target;
}

RestoreDirectory::~RestoreDirectory() {
  if (temporary_.valid() && !keep_) static_cast<void>(remove_temporary());
}

// The notes tell whose the directory is, so they go last.
Status RestoreDirectory::remove_temporary() {
  std::error_code failed;
  fs::remove_all(files_path(), failed);
  if (!failed) fs::remove_all(temporary_.path(), failed);
  if (failed) return error_from_errno("cannot remove " + temporary_.path(), failed.value());
  return {};
}

Status RestoreDirectory::begin() {
  const std::string name = path_ + "." + words_.doing;
  WALFS_ASSIGN(temporary_, LockedDirectory::claim(
                               name, [](const auto& in) { return in == kProofs || in == kFiles; },
                               std::string("another ") + words_.verb + " to " + path_ +
                                   " is under way, or has just ended"));
  WALFS_TRY(open_proofs());
  has_earlier_content_ = ::mkdirat(temporary_.fd(), kFiles, 0700) != 0;
  if (has_earlier_content_ && errno != EEXIST)
    return error_from_errno("cannot create " + files_path(), errno);
  files_ = FileDescriptor(
      ::openat(temporary_.fd(), kFiles, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
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
      ::openat(temporary_.fd(), kProofs, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!proofs.valid())
    return error_from_errno("cannot open " + temporary_.path() + "/" + kProofs, errno);
  return proofs;
}

const std::string& RestoreDirectory::keep() {
  keep_ = true;
  return temporary_.path();
}

// For filesystems that cannot exchange two names.
Status RestoreDirectory::step_aside_and_rename() {
  const std::string aside = path_ + ".replaced-" + random_token().substr(0, 8);
  if (::rename(path_.c_str(), aside.c_str()) != 0)
    return error_from_errno("cannot replace " + path_, errno);
  if (::rename(files_path().c_str(), path_.c_str()) != 0) {
    Error error = error_from_errno(
        std::string("cannot rename the ") + words_.done + " directory to " + path_, errno);
    ::rename(aside.c_str(), path_.c_str());
    return error;
  }
  if (::rename(aside.c_str(), files_path().c_str()) != 0)
    return error_from_errno(
        std::string("the directory is ") + words_.done + ", and the old one is " + aside, errno);
  return {};
}

// rename(2) replaces an empty directory and no other.
Status RestoreDirectory::take_place() {
  if (::rename(files_path().c_str(), path_.c_str()) == 0) return {};
  const bool is_filled = errno == ENOTEMPTY || errno == EEXIST;
  if (!is_filled || !force_) {
    return is_filled ? Error{Errc::kConflict, path_ +
                                                  " is not empty any more: something was "
                                                  "put there meanwhile"}
                     : error_from_errno("cannot replace " + path_, errno);
  }
  if (const std::string mounted = mounted_in(path_); !mounted.empty())
    return Error{Errc::kConflict, mounted + " was mounted meanwhile"};
  // The two change places, so that one of them is there at any time.
  if (exchange_names(files_path(), path_)) return {};
  if (errno != EINVAL) return error_from_errno("cannot replace " + path_, errno);
  return step_aside_and_rename();
}

Status RestoreDirectory::commit() {
  WALFS_TRY(take_place());
  const std::string done = std::string("the directory is ") + words_.done;
  const FileDescriptor parent(
      ::open(fs::path(path_).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0)
    return error_from_errno(done + ", but its name could not be flushed", errno);
  const Status removed = remove_temporary();
  keep_ = true;
  if (removed.ok()) return {};
  return Error{Errc::kIo, done + ", but what was there before is still in " + temporary_.path()};
}

}  // namespace walfs
