// Extended attributes, ACLs among them: the kernel's own format passes through as it is.
#include <sys/xattr.h>

#include <cerrno>
#include <cstdio>

#include "fs/mount/operations.h"
#include "fs/mount/proc_path.h"
#include "fs/mount/request.h"

namespace walfs {
namespace {

// Whether the attribute was there before the request was first executed.
bool was_there(const Node& node, const char* name, bool& repeated) {
  const bool there = getxattr(ProcPath(node.path_fd()).text, name, nullptr, 0) >= 0;
  const NamesBefore before = CurrentRequest::names_before(there ? 1 : 0, 0);
  repeated = before.repeated;
  return before.source != 0;
}

}  // namespace

int Operations::set_xattr(NodeId id, const char* name, ByteView value, int flags) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  bool repeated = false;
  if ((flags & XATTR_CREATE) != 0 && !was_there(*node, name, repeated) && repeated)
    flags &= ~XATTR_CREATE;
  if (setxattr(ProcPath(node->path_fd()).text, name, value.data(), value.size(), flags) != 0)
    return errno;
  observer_.attributes_changed(node->tracked());
  return 0;
}

int Operations::get_xattr(NodeId id, const char* name, std::span<char> buffer, size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  ssize_t size = getxattr(ProcPath(node->path_fd()).text, name, buffer.data(), buffer.size());
  if (size < 0) return errno;
  out_size = static_cast<size_t>(size);
  return 0;
}

int Operations::list_xattrs(NodeId id, std::span<char> buffer, size_t& out_size) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  ssize_t size = listxattr(ProcPath(node->path_fd()).text, buffer.data(), buffer.size());
  if (size < 0) return errno;
  out_size = static_cast<size_t>(size);
  return 0;
}

int Operations::remove_xattr(NodeId id, const char* name) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  bool repeated = false;
  const bool there = was_there(*node, name, repeated);
  const bool removed = removexattr(ProcPath(node->path_fd()).text, name) == 0;
  if (!removed && !(errno == ENODATA && repeated && there)) return errno;
  observer_.attributes_changed(node->tracked());
  return 0;
}

}  // namespace walfs
