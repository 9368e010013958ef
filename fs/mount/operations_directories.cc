// Reading directories. Nothing is remembered between two requests but open streams, as a cache:
// offsets are cookies of the backing filesystem.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fs/mount/operations.h"

namespace walfs {
namespace {

constexpr size_t kStreamsMax = 32;

bool is_dot_or_dotdot(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

}  // namespace

// A stream that stopped at this very offset goes on as if it had never been left, also where
// cookies do not outlive a descriptor (overlayfs). Without one, a new stream is moved to it.
Operations::DirectoryStream Operations::take_stream(const Node& node, uint64_t offset) {
  if (offset != 0) {
    std::lock_guard lock(streams_mutex_);
    auto found = std::find_if(streams_.begin(), streams_.end(), [&](const DirectoryStream& one) {
      return one.node == node.id() && one.position == offset;
    });
    if (found != streams_.end()) {
      DirectoryStream stream = std::move(*found);
      streams_.erase(found);
      return stream;
    }
  }
  DirectoryStream stream;
  stream.node = node.id();
  stream.position = offset;
  int fd = openat(node.path_fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return stream;
  stream.stream.reset(fdopendir(fd));
  if (!stream.stream) {
    close(fd);
  } else if (offset != 0) {
    seekdir(stream.stream.get(), static_cast<long>(offset));
  }
  return stream;
}

void Operations::keep_stream(DirectoryStream stream) {
  std::list<DirectoryStream> dropped;  // Closed after the mutex is free.
  std::lock_guard lock(streams_mutex_);
  streams_.push_front(std::move(stream));
  if (streams_.size() > kStreamsMax)
    dropped.splice(dropped.begin(), streams_, std::prev(streams_.end()));
}

int Operations::read_directory(NodeId id, uint64_t offset, bool plus,
                               const std::function<bool(const DirectoryItem&)>& take) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  DirectoryStream stream = take_stream(*node, offset);
  if (!stream.stream) return errno;
  while (true) {
    errno = 0;
    const dirent* found = readdir(stream.stream.get());
    if (found == nullptr) return errno;
    auto next = static_cast<uint64_t>(found->d_off);
    if (hidden(id, found->d_name)) {
      stream.position = next;
      continue;
    }
    const auto type = static_cast<mode_t>(DTTOIF(found->d_type));
    DirectoryItem item{found->d_name, found->d_ino, type, next, nullptr};
    Entry entry;
    if (plus && !is_dot_or_dotdot(found->d_name) && enter(*node, found->d_name, entry) == 0)
      item.entry = &entry;
    if (!take(item)) {
      if (item.entry != nullptr) forget(entry.node, 1);
      // One step back, over the item that there was no room for.
      seekdir(stream.stream.get(), static_cast<long>(stream.position));
      keep_stream(std::move(stream));
      return 0;
    }
    stream.position = next;
  }
}

int Operations::sync_directory(NodeId id, bool data_only) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  FileDescriptor fd(openat(node->path_fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno;
  return (data_only ? fdatasync(fd.get()) : fsync(fd.get())) == 0 ? 0 : errno;
}

}  // namespace walfs
