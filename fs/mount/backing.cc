#include "fs/mount/backing.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "fs/mount/control.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/operations.h"
#include "fs/mount/process.h"

namespace walfs {
namespace {

constexpr int64_t kHolderTimeoutMs = 2000;

bool is_inside(const std::string& path, const std::string& directory) {
  return directory == "/" ? path != "/" : path.starts_with(directory + "/");
}

struct Holder {
  int64_t pid = 0;
  std::string text;  // For people.
};

Holder holder_of(int lock_fd, const std::string& source) {
  Holder holder{0, source + " is already served by walfs"};
  auto text = read_text_fd(lock_fd, 4096);
  auto json = nlohmann::json::parse(text ? *text : "", nullptr, false);
  if (!json.is_object()) return holder;
  holder.pid = json.value("pid", int64_t{0});
  holder.text += " (pid " + std::to_string(holder.pid) + " on " + json.value("host", "") +
                 ", mounted at " + json.value("mountpoint", "") + "); unmount it first";
  return holder;
}

bool has_ended(int64_t pid) {
  if (pid <= 0) return false;
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return true;
  const size_t state = line.rfind(") ");
  return state != std::string::npos && line[state + 2] == 'Z';
}

// A process that was killed gives its lock back only when the last of its threads has ended.
Status take_lock(int fd, const std::string& source, const std::string& mountpoint) {
  constexpr int kTries = 40;
  constexpr std::chrono::milliseconds kBetweenTries(50);
  for (int tries = 1; flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK) return error_from_errno("cannot lock " + source, errno);
    const Holder holder = holder_of(fd, source);
    if (tries == kTries || !has_ended(holder.pid)) return Error{Errc::kConflict, holder.text};
    std::this_thread::sleep_for(kBetweenTries);
  }
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, sizeof host - 1);
  nlohmann::json holder = {{"pid", getpid()}, {"mountpoint", mountpoint}, {"host", host}};
  std::string text = holder.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (ftruncate(fd, 0) != 0 ||
      pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return error_from_errno("cannot write the lock file of " + source, errno);
  return {};
}

// Whether the server of this mount is gone. FORCE_SYNC: the kernel must not answer from its cache.
bool is_dead(const std::string& mountpoint) {
  struct statx root;
  return statx(AT_FDCWD, mountpoint.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &root) != 0 &&
         errno == ENOTCONN;
}

Status check_not_mounted(const std::string& path) {
  auto mounted = mount_at(path);
  if (!mounted || mounted->type != kMountType) return {};
  std::string who;
  auto status = control_request(path, {{"command", "status"}}, kHolderTimeoutMs);
  if (status) {
    const int keeper = status->value("keeper_pid", 0);
    who = keeper > 0 ? " (keeper pid " + std::to_string(keeper) + ")" : " (its keeper is gone)";
  } else if (is_dead(path)) {
    spdlog::warn("{} is left from a walfs that crashed; taking it away", path);
    if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
      return error_from_errno("cannot unmount what is left at " + path, errno);
    return check_not_mounted(path);
  }
  return Error{Errc::kConflict, path + " is already mounted by walfs" + who + ", from " +
                                    mounted->source + "; unmount it first"};
}

}  // namespace

Result<std::string> real_directory_path(const std::string& path) {
  char real[PATH_MAX];
  if (realpath(path.c_str(), real) != nullptr) return std::string(real);
  if (errno != ENOTCONN) return error_from_errno("cannot find the directory " + path, errno);
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  size_t slash = trimmed.rfind('/');
  std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  if (realpath(parent.c_str(), real) == nullptr)
    return error_from_errno("cannot find the directory " + path, errno);
  std::string directory = real;
  if (directory != "/") directory += '/';
  return directory + trimmed.substr(slash == std::string::npos ? 0 : slash + 1);
}

Status check_places(const std::string& source, const std::string& mountpoint) {
  WALFS_TRY(check_not_mounted(source));
  if (mountpoint != source) WALFS_TRY(check_not_mounted(mountpoint));
  if (is_inside(mountpoint, source))
    return Error{Errc::kUsage, "the mount point " + mountpoint + " must not be inside of " +
                                   source + ", which it would show"};
  for (const MountEntry& entry : read_mountinfo()) {
    if (is_inside(entry.mountpoint, source))
      return Error{Errc::kUnsupported,
                   entry.mountpoint + " is a mount of its own beneath " + source +
                       "; walfs serves one filesystem: unmount it, or give it a walfs of its own"};
  }
  for (const std::string& path : {source, mountpoint}) {
    struct stat attributes;
    if (stat(path.c_str(), &attributes) != 0)
      return error_from_errno("cannot look at " + path, errno);
    if (!S_ISDIR(attributes.st_mode)) return Error{Errc::kUsage, path + " is not a directory"};
  }
  return {};
}

Result<BackingDirectory> open_backing(const std::string& source, const std::string& mountpoint) {
  BackingDirectory backing;
  backing.directory.reset(open(source.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!backing.directory.valid()) return error_from_errno("cannot open " + source, errno);
  int directory = backing.directory.get();
  if (mkdirat(directory, kStateDirectory, 0700) != 0 && errno != EEXIST)
    return error_from_errno("cannot make " + source + "/" + kStateDirectory, errno);
  backing.state.reset(
      openat(directory, kStateDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!backing.state.valid())
    return error_from_errno("cannot open " + source + "/" + kStateDirectory, errno);
  backing.lock.reset(
      openat(backing.state.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!backing.lock.valid())
    return error_from_errno("cannot open the lock file of " + source, errno);
  WALFS_TRY(take_lock(backing.lock.get(), source, mountpoint));
  return backing;
}

Status check_outside(const std::string& what, const std::string& path, const std::string& source,
                     const std::string& mountpoint) {
  std::error_code error;
  const std::string real = std::filesystem::weakly_canonical(path, error).string();
  if (error) return {};  // Whoever opens it tells why it can't be.
  const std::string* around = nullptr;
  for (const std::string* directory : {&source, &mountpoint})
    if (real == *directory || is_inside(real, *directory)) around = directory;
  if (around == nullptr) return {};
  return Error{Errc::kUsage, what + " " + path + " lies in " + *around +
                                 ", which is to be mounted; choose a place outside of it"};
}

}  // namespace walfs
