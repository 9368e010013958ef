// Operations on names: lookup, create without data, link, unlink, rename.
#include <fcntl.h>
#include <linux/openat2.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fs/mount/operations.h"
#include "fs/mount/request.h"

namespace walfs {
namespace {

// RESOLVE_NO_XDEV: another filesystem mounted beneath the backing directory would bring inode
// numbers of its own, and SQLite tells files apart by them.
int open_path(int directory, const char* name) {
  struct open_how how = {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV;
  return static_cast<int>(syscall(SYS_openat2, directory, name, &how, sizeof how));
}

FileDescriptor duplicate(int fd) {
  return FileDescriptor(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

FileDescriptor open_root(int backing_fd) {
  FileDescriptor fd(openat(backing_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return fd.valid() ? std::move(fd) : duplicate(backing_fd);
}

struct stat stat_of(int fd) {
  struct stat attributes = {};
  fstat(fd, &attributes);
  return attributes;
}

TrackedFile* tracked(const NodePtr& node) {
  return node ? node->tracked() : nullptr;
}

// 0: there is nothing.
uint64_t inode_at(const Node& parent, const char* name) {
  struct stat attributes;
  const bool found = fstatat(parent.path_fd(), name, &attributes, AT_SYMLINK_NOFOLLOW) == 0;
  return found ? attributes.st_ino : 0;
}

}  // namespace

Operations::Operations(int backing_fd, FileObserver& observer, NodeRecords& records)
    : observer_(observer), nodes_(open_root(backing_fd), stat_of(backing_fd), observer, records) {}

bool Operations::hidden(NodeId parent, const char* name) const {
  return parent == kRootNode && std::strcmp(name, kStateDirectory) == 0;
}

int Operations::enter(const Node& parent, const char* name, Entry& out) {
  FileDescriptor fd(open_path(parent.path_fd(), name));
  if (!fd.valid()) {
    int error = errno;
    if (error == EXDEV) {
      spdlog::warn("{}/{} is the mount point of another filesystem, which walfs does not serve",
                   nodes_.describe(parent.id()), name);
    }
    return error;
  }
  if (fstat(fd.get(), &out.attributes) != 0) return errno;
  const NodePtr node = nodes_.acquire(std::move(fd), out.attributes, &parent, name);
  if (!node) return ENFILE;
  out.node = node->id();
  return 0;
}

// Without a descriptor left, what was just made cannot be known: then it was not made.
int Operations::undo(const Node& parent, const char* name, int error) {
  if (unlinkat(parent.path_fd(), name, 0) != 0 && (errno == EISDIR || errno == EPERM))
    unlinkat(parent.path_fd(), name, AT_REMOVEDIR);
  return error;
}

template <typename Make>
int Operations::make(const Caller& caller, NodeId parent_id, const char* name, Entry& out,
                     Make&& make) {
  NodePtr parent = nodes_.get(parent_id);
  if (!parent) return ESTALE;
  if (hidden(parent_id, name)) return EPERM;
  const NamesBefore before = CurrentRequest::names_before(inode_at(*parent, name), 0);
  int error = 0;
  {
    ActAs act(caller);
    error = make(*parent) == 0 ? 0 : errno;
  }
  const bool made_before = error == EEXIST && before.repeated && before.source == 0;
  if (error != 0 && !made_before) return error;
  if (int entering = enter(*parent, name, out)) return undo(*parent, name, entering);
  // What was made before is in the tree that the observer began with.
  if (!made_before) observer_.created(parent->tracked(), name, tracked(nodes_.get(out.node)));
  return 0;
}

NodePtr Operations::known_child(const Node& parent, const char* name) const {
  struct stat attributes;
  if (fstatat(parent.path_fd(), name, &attributes, AT_SYMLINK_NOFOLLOW) != 0) return nullptr;
  return nodes_.find(attributes.st_dev, attributes.st_ino);
}

int Operations::lookup(NodeId parent_id, const char* name, Entry& out) {
  NodePtr parent = nodes_.get(parent_id);
  if (!parent) return ESTALE;
  if (hidden(parent_id, name)) return ENOENT;
  return enter(*parent, name, out);
}

void Operations::forget(NodeId node, uint64_t lookups) {
  if (NodePtr known = nodes_.get(node)) settle_change_time(*known);
  nodes_.release(node, lookups);
}

int Operations::make_node(const Caller& caller, NodeId parent, const char* name, mode_t mode,
                          dev_t device, Entry& out) {
  return make(caller, parent, name, out,
              [&](const Node& in) { return mknodat(in.path_fd(), name, mode, device); });
}

int Operations::make_directory(const Caller& caller, NodeId parent, const char* name, mode_t mode,
                               Entry& out) {
  return make(caller, parent, name, out,
              [&](const Node& in) { return mkdirat(in.path_fd(), name, mode); });
}

int Operations::make_symlink(const Caller& caller, const char* target, NodeId parent,
                             const char* name, Entry& out) {
  return make(caller, parent, name, out,
              [&](const Node& in) { return symlinkat(target, in.path_fd(), name); });
}

int Operations::read_symlink(NodeId id, std::string& out) {
  NodePtr node = nodes_.get(id);
  if (!node) return ESTALE;
  char target[PATH_MAX + 1];
  ssize_t size = readlinkat(node->path_fd(), "", target, sizeof target);
  if (size < 0) return errno;
  out.assign(target, static_cast<size_t>(size));
  return 0;
}

int Operations::make_link(NodeId id, NodeId new_parent_id, const char* new_name, Entry& out) {
  NodePtr node = nodes_.get(id);
  NodePtr parent = nodes_.get(new_parent_id);
  if (!node || !parent) return ESTALE;
  if (hidden(new_parent_id, new_name)) return EPERM;
  const NamesBefore before = CurrentRequest::names_before(0, inode_at(*parent, new_name));
  const bool linked = linkat(node->path_fd(), "", parent->path_fd(), new_name, AT_EMPTY_PATH) == 0;
  const int error = linked ? 0 : errno;
  const bool linked_before = error == EEXIST && before.repeated && before.target == 0;
  if (!linked && !linked_before) return error;
  if (int entering = enter(*parent, new_name, out)) return undo(*parent, new_name, entering);
  if (!linked_before) observer_.linked(parent->tracked(), new_name, node->tracked());
  return 0;
}

int Operations::unlink(NodeId parent_id, const char* name, bool directory) {
  NodePtr parent = nodes_.get(parent_id);
  if (!parent) return ESTALE;
  if (hidden(parent_id, name)) return ENOENT;
  NodePtr node = known_child(*parent, name);
  const uint64_t inode = inode_at(*parent, name);
  const NamesBefore before = CurrentRequest::names_before(inode, 0);
  if (before.repeated && before.source != 0 && inode == 0) return 0;
  observer_.before_unlink(parent->tracked(), name, tracked(node));
  if (unlinkat(parent->path_fd(), name, directory ? AT_REMOVEDIR : 0) != 0) return errno;
  observer_.unlinked(parent->tracked(), name, tracked(node));
  return 0;
}

int Operations::rename(NodeId parent_id, const char* name, NodeId new_parent_id,
                       const char* new_name, unsigned flags) {
  NodePtr parent = nodes_.get(parent_id);
  NodePtr new_parent = nodes_.get(new_parent_id);
  if (!parent || !new_parent) return ESTALE;
  if (hidden(parent_id, name)) return ENOENT;
  if (hidden(new_parent_id, new_name)) return EPERM;
  NodePtr node = known_child(*parent, name);
  NodePtr replaced = known_child(*new_parent, new_name);
  const uint64_t source = inode_at(*parent, name);
  const uint64_t target = inode_at(*new_parent, new_name);
  const NamesBefore before = CurrentRequest::names_before(source, target);
  const uint64_t left_behind = (flags & RENAME_EXCHANGE) != 0 ? before.target : 0;
  const bool done_before = before.repeated && before.source != 0 && target == before.source &&
                           source == left_behind && before.source != before.target;
  if (done_before) return 0;
  observer_.before_rename(parent->tracked(), name, new_parent->tracked(), new_name, tracked(node),
                          tracked(replaced), flags);
  if (renameat2(parent->path_fd(), name, new_parent->path_fd(), new_name, flags) != 0) return errno;
  if (node) node->set_place(new_parent_id, new_name);
  if (replaced && (flags & RENAME_EXCHANGE) != 0) replaced->set_place(parent_id, name);
  observer_.renamed(parent->tracked(), name, new_parent->tracked(), new_name, tracked(node),
                    tracked(replaced), flags);
  return 0;
}

}  // namespace walfs
