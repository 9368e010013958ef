// Operations on file content.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fs/mount/operations.h"
#include "fs/mount/request.h"
#include "replicator/time.h"

namespace walfs {
namespace {

// How old the known time of a file may become while it is written to without a sync or a close.
constexpr int64_t kToldLateMaxNs = kNsPerSecond;

bool can_write(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}

// One handle more, or one less, in what the kernel holds.
void count_handle(NodeId node, int flags, int32_t handles) {
  CurrentRequest::count({node, 0, handles, can_write(flags) ? handles : 0});
}

// Returns 0 or errno.
int sync_data(const Node& node, bool data_only) {
  auto data = node.data_or_open(false);
  if (!data) return errno;
  return (data_only ? fdatasync(data->fd.get()) : fsync(data->fd.get())) == 0 ? 0 : errno;
}

}  // namespace

int Operations::create(const Caller& caller, NodeId parent_id, const char* name, mode_t mode,
                       int flags, Entry& out) {
  NodePtr parent = nodes_.get(parent_id);
  if (!parent) return ESTALE;
  if (hidden(parent_id, name)) return EPERM;
  struct stat existing;
  const bool exists = fstatat(parent->path_fd(), name, &existing, AT_SYMLINK_NOFOLLOW) == 0;
  const NamesBefore before = CurrentRequest::names_before(exists ? existing.st_ino : 0, 0);
  FileDescriptor fd;
  {
    ActAs act(caller);
    // Always O_EXCL: what exists is opened through its node like any other open.
    fd.reset(
        openat(parent->path_fd(), name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, mode));
  }
  if (!fd.valid()) {
    const bool made_before = before.repeated && before.source == 0;
    if (errno != EEXIST || ((flags & O_EXCL) != 0 && !made_before)) return errno;
    if (int error = enter(*parent, name, out)) return error;
    int error = open(out.node, flags, false);
    if (error != 0) forget(out.node, 1);
    return error;
  }
  if (fstat(fd.get(), &out.attributes) != 0) return undo(*parent, name, errno);
  FileDescriptor path_fd(reopen(fd.get(), O_PATH));
  if (!path_fd.valid()) return undo(*parent, name, errno);
  NodePtr node = nodes_.acquire(std::move(path_fd), out.attributes, parent.get(), name);
  if (!node) return undo(*parent, name, ENFILE);
  out.node = node->id();
  node->adopt_handle(std::move(fd));
  count_handle(out.node, flags, 1);
  observer_.created(parent->tracked(), name, node->tracked());
  if (can_write(flags)) observer_.opened_writable(node->tracked());
  return 0;
}

int Operations::create_unnamed(const Caller& caller, NodeId parent_id, mode_t mode, int flags,
                               Entry& out) {
  NodePtr parent = nodes_.get(parent_id);
  if (!parent) return ESTALE;
  FileDescriptor fd;
  {
    ActAs act(caller);
    // Whether it may get a name (O_EXCL) is for the kernel to decide.
    fd.reset(openat(parent->path_fd(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  }
  if (!fd.valid() || fstat(fd.get(), &out.attributes) != 0) return errno;
  FileDescriptor path_fd(reopen(fd.get(), O_PATH));
  if (!path_fd.valid()) return errno;
  NodePtr node = nodes_.acquire(std::move(path_fd), out.attributes, nullptr, nullptr);
  if (!node) return ENFILE;
  out.node = node->id();
  node->adopt_handle(std::move(fd));
  count_handle(out.node, flags, 1);
  if (can_write(flags)) observer_.opened_writable(node->tracked());
  return 0;
}

int Operations::open(NodeId id, int flags, bool clear_suid_sgid) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  if (node->type() != S_IFREG) return EINVAL;
  if (int error = node->open_handle(can_write(flags))) return error;
  count_handle(id, flags, 1);
  if (can_write(flags)) observer_.opened_writable(node->tracked());
  if ((flags & O_TRUNC) != 0) {
    if (int error = truncate(*node, 0, clear_suid_sgid)) {
      release(id, flags);
      return error;
    }
  }
  return 0;
}

void Operations::release(NodeId id, int flags) {
  NodePtr node = nodes_.get(id);
  if (!node || node->type() != S_IFREG) return;
  count_handle(id, flags, -1);
  if (can_write(flags)) {
    settle_change_time(*node);
    observer_.closed_writable(node->tracked());
  }
  node->close_handle();
}

int Operations::read(NodeId id, uint64_t offset, std::span<uint8_t> buffer, size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto data = node->data_or_open(false);
  if (!data) return errno;
  out_size = 0;
  while (out_size < buffer.size()) {
    ssize_t got = pread(data->fd.get(), buffer.data() + out_size, buffer.size() - out_size,
                        static_cast<off_t>(offset + out_size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    out_size += static_cast<size_t>(got);
  }
  return 0;
}

int Operations::write(NodeId id, uint64_t offset, ByteView bytes, bool clear_suid_sgid, bool whole,
                      size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto data = node->data_or_open(true);
  if (!data) return errno;
  observer_.before_write(node->tracked(), offset, bytes);
  if (clear_suid_sgid) clear_suid_sgid_bits(data->fd.get());
  out_size = 0;
  int error = 0;
  while (out_size < bytes.size() && error == 0) {
    ssize_t put = pwrite(data->fd.get(), bytes.data() + out_size, bytes.size() - out_size,
                         static_cast<off_t>(offset + out_size));
    if (put >= 0) {
      out_size += static_cast<size_t>(put);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (out_size > 0) {
    node->content_changed();
    observer_.wrote(node->tracked(), offset, out_size);
    if (!kernel_keeps_times_ && node->change_time().moved_for(kToldLateMaxNs))
      settle_change_time(*node);
  }
  return out_size > 0 && !whole ? 0 : error;
}

std::function<void()> Operations::sync(const Caller& caller, NodeId id, bool data_only,
                                       SyncAhead::Done done) {
  NodePtr node = nodes_.get(id);
  if (!node || caller.pid == flusher_pid_.load(std::memory_order_relaxed)) {
    done(node ? 0 : ESTALE);
    return nullptr;
  }
  if (!kernel_keeps_times_) settle_change_time(*node);  // Else the kernel has just sent it.
  observer_.before_fsync(node->tracked());
  auto answer = [this, node, done = std::move(done)](int error) {
    if (error == 0) observer_.synced(node->tracked());
    done(error);
  };
  const bool may_join = data_only && CurrentRequest::may_be_answered_later();
  switch (may_join ? node->sync_ahead().join(answer) : SyncAhead::Joined::kNo) {
    case SyncAhead::Joined::kWaiting:
      return nullptr;
    case SyncAhead::Joined::kCovered:
      return [answer = std::move(answer)] { answer(0); };
    case SyncAhead::Joined::kNo:
      break;
  }
  return [node, data_only, answer = std::move(answer)] {
    answer(node->sync_ahead().run([&] { return sync_data(*node, data_only); }));
  };
}

std::function<void()> Operations::sync_ahead(NodeId id) {
  NodePtr node = nodes_.get(id);
  if (!node || !node->sync_ahead().expected()) return nullptr;
  return [node = std::move(node)] {
    node->sync_ahead().run_ahead([&] { return sync_data(*node, true); });
  };
}

int Operations::allocate(NodeId id, int mode, uint64_t offset, uint64_t size,
                         bool clear_suid_sgid) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto data = node->data_or_open(true);
  if (!data) return errno;
  // Collapsing and inserting move everything behind the range.
  uint64_t affected = size;
  if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0)
    affected = static_cast<uint64_t>(INT64_MAX) - offset;
  observer_.before_range_change(node->tracked(), offset, affected);
  if (fallocate(data->fd.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(size)) != 0)
    return errno;
  if (clear_suid_sgid) clear_suid_sgid_bits(data->fd.get());
  node->content_changed();
  observer_.range_changed(node->tracked(), offset, affected);
  return 0;
}

int Operations::seek(NodeId id, int64_t offset, int whence, int64_t& out_offset) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto data = node->data_or_open(false);
  if (!data) return errno;
  out_offset = lseek(data->fd.get(), offset, whence);
  return out_offset < 0 ? errno : 0;
}

int Operations::copy_range(NodeId from_id, uint64_t from_offset, NodeId to_id, uint64_t to_offset,
                           size_t size, bool clear_suid_sgid, size_t& out_size) {
  NodePtr from = nodes_.get(from_id);
  NodePtr to = nodes_.get(to_id);
  if (!from || !to) return ESTALE;
  auto source = from->data_or_open(false);
  if (!source) return errno;
  auto target = to->data_or_open(true);
  if (!target) return errno;
  observer_.before_range_change(to->tracked(), to_offset, size);
  auto in = static_cast<off_t>(from_offset);
  auto out = static_cast<off_t>(to_offset);
  ssize_t copied = copy_file_range(source->fd.get(), &in, target->fd.get(), &out, size, 0);
  if (copied < 0) return errno;
  out_size = static_cast<size_t>(copied);
  if (copied > 0) {
    if (clear_suid_sgid) clear_suid_sgid_bits(target->fd.get());
    to->content_changed();
    observer_.range_changed(to->tracked(), to_offset, out_size);
  }
  return 0;
}

}  // namespace walfs
