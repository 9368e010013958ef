// Operations on attributes: stat, chmod, chown, utimens, truncate, statfs.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "fs/mount/operations.h"
#include "fs/mount/proc_path.h"

namespace walfs {
namespace {

timespec chosen_time(unsigned valid, unsigned set, unsigned now, const timespec& time) {
  if ((valid & now) != 0) return {0, UTIME_NOW};
  if ((valid & set) != 0) return time;
  return {0, UTIME_OMIT};
}

timespec time_of(const struct statx_timestamp& time) {
  return {static_cast<time_t>(time.tv_sec), static_cast<long>(time.tv_nsec)};
}

// All attributes but the times of changes, which the kernel keeps itself for regular files. It
// sends them before each fsync; asking the backing filesystem for them then would make that give
// every change a new time (multigrain timestamps, since Linux 6.13), and so the kernel, too.
int attributes_without_change_times(int fd, struct stat& out) {
  struct statx found;
  constexpr unsigned kWanted = STATX_BASIC_STATS & ~(STATX_MTIME | STATX_CTIME);
  if (statx(fd, "", AT_EMPTY_PATH, kWanted, &found) != 0) return errno;
  out = {};
  out.st_dev = makedev(found.stx_dev_major, found.stx_dev_minor);
  out.st_ino = found.stx_ino;
  out.st_mode = found.stx_mode;
  out.st_nlink = found.stx_nlink;
  out.st_uid = found.stx_uid;
  out.st_gid = found.stx_gid;
  out.st_size = static_cast<off_t>(found.stx_size);
  out.st_blocks = static_cast<blkcnt_t>(found.stx_blocks);
  out.st_blksize = static_cast<blksize_t>(found.stx_blksize);
  out.st_atim = time_of(found.stx_atime);
  return 0;
}

}  // namespace

void clear_suid_sgid_bits(int fd) {
  struct stat attributes;
  if (fstat(fd, &attributes) != 0) return;
  mode_t drop = attributes.st_mode & S_ISUID;
  if ((attributes.st_mode & S_IXGRP) != 0) drop |= attributes.st_mode & S_ISGID;
  if (drop != 0) fchmod(fd, attributes.st_mode & 07777 & ~drop);
}

int Operations::get_attributes(NodeId id, struct stat& out) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  return fstat(node->path_fd(), &out) == 0 ? 0 : errno;
}

int Operations::truncate(Node& node, uint64_t size, bool clear_suid_sgid) {
  auto data = node.data_or_open(true);
  if (!data) return errno;
  observer_.before_truncate(node.tracked(), size);
  if (ftruncate(data->fd.get(), static_cast<off_t>(size)) != 0) return errno;
  if (clear_suid_sgid) clear_suid_sgid_bits(data->fd.get());
  node.content_changed();
  observer_.truncated(node.tracked(), size);
  return 0;
}

int Operations::change_mode_owner_times(Node& node, const AttributeChange& change) {
  using Change = AttributeChange;
  const unsigned valid = change.valid;
  const bool is_link = node.type() == S_IFLNK;
  if ((valid & (Change::kUid | Change::kGid)) != 0) {
    uid_t uid = (valid & Change::kUid) != 0 ? change.uid : static_cast<uid_t>(-1);
    gid_t gid = (valid & Change::kGid) != 0 ? change.gid : static_cast<gid_t>(-1);
    if (fchownat(node.path_fd(), "", uid, gid, AT_EMPTY_PATH) != 0) return errno;
  }
  // After the owner: chown(2) clears the suid and sgid bits that the same request may set.
  if ((valid & Change::kMode) != 0) {
    if (is_link) return EOPNOTSUPP;
    if (::chmod(ProcPath(node.path_fd()).text, change.mode & 07777) != 0) return errno;
  }
  constexpr unsigned kTimes =
      Change::kAtime | Change::kMtime | Change::kAtimeNow | Change::kMtimeNow;
  if ((valid & kTimes) != 0) {
    const timespec times[2] = {chosen_time(valid, Change::kAtime, Change::kAtimeNow, change.atime),
                               chosen_time(valid, Change::kMtime, Change::kMtimeNow, change.mtime)};
    if ((valid & Change::kMtime) != 0) node.change_time().given(change.mtime);
    // The magic link leads to the inode itself, also when that is a symlink.
    if (utimensat(AT_FDCWD, ProcPath(node.path_fd()).text, times, 0) != 0) return errno;
  }
  return 0;
}

void Operations::settle_change_time(Node& node) {
  if (!node.change_time().take_moved()) return;
  if (kernel_keeps_times_) node.change_time().put_back(node.path_fd());
  observer_.attributes_changed(node.tracked());
}

int Operations::set_attributes(NodeId id, const AttributeChange& change, struct stat& out) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  if ((change.valid & AttributeChange::kSize) != 0) {
    bool clear = (change.valid & AttributeChange::kClearSuidSgid) != 0;
    if (int error = truncate(*node, change.size, clear)) return error;
  }
  constexpr unsigned kGivenTimes = AttributeChange::kAtime | AttributeChange::kMtime;
  constexpr unsigned kOthers = ~(AttributeChange::kSize | AttributeChange::kClearSuidSgid);
  if ((change.valid & kOthers) != 0) {
    if (int error = change_mode_owner_times(*node, change)) return error;
    observer_.attributes_changed(node->tracked());
  } else {
    settle_change_time(*node);
  }
  if (node->type() == S_IFREG && (change.valid & ~kGivenTimes) == 0) {
    int error = attributes_without_change_times(node->path_fd(), out);
    out.st_mtim = change.mtime;
    return error;
  }
  return fstat(node->path_fd(), &out) == 0 ? 0 : errno;
}

int Operations::statistics(NodeId id, struct statvfs& out) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  return fstatvfs(node->path_fd(), &out) == 0 ? 0 : errno;
}

}  // namespace walfs
