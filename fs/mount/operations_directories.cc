// Reading directories.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fs/mount/operations.h"

namespace walfs {
namespace {

bool is_dot_or_dotdot(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

DIR* open_stream(const Node& node) {
  int fd = openat(node.path_fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  DIR* stream = fdopendir(fd);
  if (stream == nullptr) close(fd);
  return stream;
}

}  // namespace

int Operations::open_directory(NodeId id, uint64_t& out_handle) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto handle = std::make_shared<DirectoryHandle>();
  handle->stream = open_stream(*node);
  if (handle->stream == nullptr) return errno;
  std::lock_guard lock(handles_mutex_);
  out_handle = next_handle_++;
  directory_handles_.emplace(out_handle, std::move(handle));
  return 0;
}

void Operations::release_directory(uint64_t handle) {
  std::shared_ptr<DirectoryHandle> last;
  std::lock_guard lock(handles_mutex_);
  auto found = directory_handles_.find(handle);
  if (found == directory_handles_.end()) return;
  last = std::move(found->second);
  directory_handles_.erase(found);
}

std::shared_ptr<Operations::DirectoryHandle> Operations::directory_handle(const Node& node,
                                                                          uint64_t handle) {
  std::lock_guard lock(handles_mutex_);
  auto found = directory_handles_.find(handle);
  if (found != directory_handles_.end()) return found->second;
  // A handle of before: offsets are cookies of the backing filesystem, so a new stream will do.
  auto reopened = std::make_shared<DirectoryHandle>();
  reopened->stream = open_stream(node);
  return reopened->stream != nullptr ? reopened : nullptr;
}

int Operations::read_directory(NodeId id, uint64_t handle_id, uint64_t offset, bool plus,
                               const std::function<bool(const DirectoryItem&)>& take) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto handle = directory_handle(*node, handle_id);
  if (!handle) return errno;
  std::lock_guard lock(handle->mutex);
  // Offset 0 starts over, so that names made since are seen.
  if (offset == 0) {
    rewinddir(handle->stream);
  } else if (offset != handle->position) {
    seekdir(handle->stream, static_cast<long>(offset));
  }
  handle->position = offset;
  while (true) {
    errno = 0;
    const dirent* found = readdir(handle->stream);
    if (found == nullptr) return errno;
    auto next = static_cast<uint64_t>(found->d_off);
    if (hidden(id, found->d_name)) {
      handle->position = next;
      continue;
    }
    DirectoryItem item{found->d_name, found->d_ino, DTTOIF(found->d_type), next, nullptr};
    Entry entry;
    if (plus && !is_dot_or_dotdot(found->d_name) && enter(*node, found->d_name, entry) == 0)
      item.entry = &entry;
    if (!take(item)) {
      if (item.entry != nullptr) forget(entry.node, 1);
      // The stream has moved past an item that the kernel has not got.
      handle->position = ~uint64_t{0};
      return 0;
    }
    handle->position = next;
  }
}

int Operations::sync_directory(NodeId id, uint64_t handle_id, bool data_only) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  auto handle = directory_handle(*node, handle_id);
  if (!handle) return errno;
  int fd = dirfd(handle->stream);
  return (data_only ? fdatasync(fd) : fsync(fd)) == 0 ? 0 : errno;
}

}  // namespace walfs
