// Extended attributes, ACLs among them: the kernel's own format passes through as it is.
#include <sys/xattr.h>

#include <cerrno>
#include <cstdio>

#include "fs/mount/operations.h"

namespace walfs {
namespace {

// The magic link leads to the inode itself, also when that is a symlink.
struct ProcPath {
  explicit ProcPath(const Node& node) {
    std::snprintf(text, sizeof text, "/proc/self/fd/%d", node.path_fd());
  }
  char text[32];
};

}  // namespace

int Operations::set_xattr(NodeId id, const char* name, ByteView value, int flags) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  if (setxattr(ProcPath(*node).text, name, value.data(), value.size(), flags) != 0) return errno;
  observer_.attributes_changed(node->tracked());
  return 0;
}

int Operations::get_xattr(NodeId id, const char* name, std::span<char> buffer, size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  ssize_t size = getxattr(ProcPath(*node).text, name, buffer.data(), buffer.size());
  if (size < 0) return errno;
  out_size = static_cast<size_t>(size);
  return 0;
}

int Operations::list_xattrs(NodeId id, std::span<char> buffer, size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  ssize_t size = listxattr(ProcPath(*node).text, buffer.data(), buffer.size());
  if (size < 0) return errno;
  out_size = static_cast<size_t>(size);
  return 0;
}

int Operations::remove_xattr(NodeId id, const char* name) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  if (removexattr(ProcPath(*node).text, name) != 0) return errno;
  observer_.attributes_changed(node->tracked());
  return 0;
}

}  // namespace walfs
