#include "fs/mount/nodes.h"

#include <fcntl.h>
#include <limits.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "fs/mount/kept_descriptors.h"
#include "fs/mount/proc_path.h"
#include "fs/mount/request.h"

namespace walfs {
namespace {

constexpr int kRoomWaitMs = 1000;

}  // namespace

int reopen(int path_fd, int flags) {
  return ::open(ProcPath(path_fd).text, flags | O_CLOEXEC | O_NONBLOCK);
}

std::string path_of_descriptor(int fd) {
  char path[PATH_MAX];
  const ssize_t size = readlink(ProcPath(fd).text, path, sizeof path);
  return {path, static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

// ---------------------------------------------------------------- one node

std::shared_ptr<DataFile> Node::open_data(bool for_writing) const {
  int fd = reopen(path_fd(), O_RDWR);
  bool writable = fd >= 0;
  // Read-only or immutable below: readers are still served. A writer hears the reason.
  if (fd < 0 && !for_writing) fd = reopen(path_fd(), O_RDONLY);
  if (fd < 0) return nullptr;
  auto data = std::make_shared<DataFile>();
  data->fd.reset(fd);
  data->writable = writable;
  return data;
}

int Node::open_handle(bool for_writing) {
  std::lock_guard lock(mutex_);
  if (!data_ || (for_writing && !data_->writable)) {
    auto data = open_data(for_writing);
    if (!data) return errno;
    data_ = std::move(data);
  }
  ++handles_;
  return 0;
}

void Node::adopt_handle(FileDescriptor data_fd) {
  std::lock_guard lock(mutex_);
  if (!data_ || !data_->writable) {
    data_ = std::make_shared<DataFile>();
    data_->fd = std::move(data_fd);
    data_->writable = true;
  }
  ++handles_;
}

void Node::close_handle() {
  std::shared_ptr<DataFile> last;  // Closed after the mutex is free.
  std::lock_guard lock(mutex_);
  if (handles_ > 0 && --handles_ == 0) last = std::move(data_);
}

std::shared_ptr<const DataFile> Node::data() const {
  std::lock_guard lock(mutex_);
  return data_;
}

std::shared_ptr<const DataFile> Node::data_or_open(bool for_writing) const {
  {
    std::lock_guard lock(mutex_);
    if (data_ && (data_->writable || !for_writing)) return data_;
  }
  return open_data(for_writing);
}

void Node::set_place(NodeId parent, std::string name) {
  std::lock_guard lock(mutex_);
  parent_ = parent;
  name_ = std::move(name);
}

NodeId Node::parent() const {
  std::lock_guard lock(mutex_);
  return parent_;
}

std::string Node::name() const {
  std::lock_guard lock(mutex_);
  return name_;
}

// ---------------------------------------------------------------- the table

NodeTable::NodeTable(FileDescriptor root_path_fd, const struct stat& root, FileObserver& observer,
                     NodeRecords& records)
    : observer_(observer),
      records_(records),
      root_(std::make_shared<Node>(kRootNode, std::move(root_path_fd), root)) {
  root_->lookups_ = 1;  // Never taken away.
  root_->tracked_ = observer_.attach(root_->path_fd(), root, nullptr, "");
  root_->attached_ = true;
  Key key{root.st_dev, root.st_ino};
  shard_of(key).nodes.emplace(key, root_);
  shard_of(kRootNode).nodes.emplace(kRootNode, root_);
  for (const NodeRecord* record : records_.left()) adopt(*record);
}

// Without its descriptor a node cannot be served; the kernel hears ESTALE, as for one that is
// unknown.
void NodeTable::adopt(const NodeRecord& record) {
  FileDescriptor fd(kKeptDescriptorBase + static_cast<int>(NodeRecords::index_of(record.id)));
  struct stat attributes = {};
  if (fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 || fstat(fd.get(), &attributes) != 0 ||
      attributes.st_ino != record.inode || attributes.st_dev != record.device) {
    spdlog::error(
        "an open file was lost with the server that died (inode {}, {} lookups; node {} has inode "
        "{})",
        record.inode, record.lookups, record.id, attributes.st_ino);
    return;
  }
  const std::string root_path = path_of_descriptor(root_->path_fd()) + "/";
  const std::string full = path_of_descriptor(fd.get());
  const bool named = attributes.st_nlink > 0 && full.starts_with(root_path);
  const std::string path = named ? full.substr(root_path.size()) : "";
  auto node = std::make_shared<Node>(record.id, std::move(fd), attributes);
  node->change_time_.lose();
  node->lookups_ = record.lookups;
  node->handles_ = static_cast<int>(record.handles);
  if (node->handles_ > 0) node->data_ = node->open_data(false);
  node->tracked_ = observer_.attach_again(node->path_fd(), attributes, path, record.writers);
  node->attached_ = true;
  if (named) node->set_place(kRootNode, path);
  const Key key{attributes.st_dev, attributes.st_ino};
  shard_of(key).nodes.emplace(key, node);
  shard_of(node->id()).nodes.emplace(node->id(), node);
}

NodeTable::~NodeTable() {
  for (auto& shard : ids_)
    for (auto& [id, node] : shard.nodes)
      if (node->attached_) observer_.detach(node->tracked());
}

NodePtr NodeTable::get(NodeId id) const {
  if (id == kRootNode) return root_;
  IdShard& shard = shard_of(id);
  std::lock_guard lock(shard.mutex);
  auto found = shard.nodes.find(id);
  return found == shard.nodes.end() ? nullptr : found->second;
}

NodePtr NodeTable::find(dev_t device, ino_t inode) const {
  Key key{device, inode};
  InodeShard& shard = shard_of(key);
  std::lock_guard lock(shard.mutex);
  auto found = shard.nodes.find(key);
  return found == shard.nodes.end() ? nullptr : found->second;
}

// Null if there is no room.
NodePtr NodeTable::count_lookup(const Key& key, FileDescriptor& path_fd,
                                const struct stat& attributes) {
  InodeShard& shard = shard_of(key);
  std::lock_guard lock(shard.mutex);
  NodePtr& slot = shard.nodes[key];
  if (!slot) {
    const NodeId id = records_.add(path_fd.get(), attributes.st_dev, attributes.st_ino);
    if (id == 0) {
      shard.nodes.erase(key);
      return nullptr;
    }
    slot = std::make_shared<Node>(id, std::move(path_fd), attributes);
    IdShard& ids = shard_of(id);
    std::lock_guard id_lock(ids.mutex);
    ids.nodes.emplace(id, slot);
  }
  ++slot->lookups_;
  return slot;
}

NodePtr NodeTable::acquire(FileDescriptor path_fd, const struct stat& attributes,
                           const Node* parent, const char* name) {
  const Key key{attributes.st_dev, attributes.st_ino};
  if (const int64_t ms = records_.brake_ms(); ms != 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  NodePtr node = count_lookup(key, path_fd, attributes);
  for (int waited_ms = 0; !node && waited_ms < kRoomWaitMs; ++waited_ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    node = count_lookup(key, path_fd, attributes);
  }
  if (!node) return nullptr;
  CurrentRequest::count({.id = node->id(), .lookups = 1});
  std::lock_guard lock(node->attach_mutex_);
  if (!node->attached_) {
    node->tracked_.store(
        observer_.attach(node->path_fd(), attributes, parent ? parent->tracked() : nullptr, name),
        std::memory_order_release);
    node->attached_ = true;
  }
  if (parent) node->set_place(parent->id(), name);
  return node;
}

bool NodeTable::has_lookups(const Node& node) const {
  InodeShard& shard = shard_of(Key{node.device_, node.inode_});
  std::lock_guard lock(shard.mutex);
  return node.lookups_ != 0;
}

void NodeTable::release(NodeId id, uint64_t lookups) {
  NodePtr node = id == kRootNode ? nullptr : get(id);
  if (!node) return;
  CurrentRequest::count({.id = id, .lookups = -static_cast<int64_t>(lookups)});
  Key key{node->device_, node->inode_};
  InodeShard& shard = shard_of(key);
  {
    std::lock_guard lock(shard.mutex);
    node->lookups_ -= std::min(lookups, node->lookups_);
    if (node->lookups_ != 0) return;
  }
  // A lookup that comes now finds the node, counts, and waits for attach_mutex_ to attach it again.
  std::lock_guard attach_lock(node->attach_mutex_);
  if (has_lookups(*node)) return;
  if (node->attached_) {
    observer_.detach(node->tracked_.exchange(nullptr));
    node->attached_ = false;
  }
  std::lock_guard lock(shard.mutex);
  if (node->lookups_ != 0) return;
  // Looked up and forgotten again meanwhile, it may have been taken away by another thread.
  auto found = shard.nodes.find(key);
  if (found == shard.nodes.end() || found->second != node) return;
  shard.nodes.erase(found);
  IdShard& ids = shard_of(id);
  std::lock_guard id_lock(ids.mutex);
  ids.nodes.erase(id);
  records_.remove(id);
}

size_t NodeTable::size() const {
  size_t total = 0;
  for (auto& shard : ids_) {
    std::lock_guard lock(shard.mutex);
    total += shard.nodes.size();
  }
  return total;
}

std::string NodeTable::describe(NodeId id) const {
  constexpr int kDepthMax = 64;
  std::string path;
  for (int depth = 0; id != kRootNode && depth < kDepthMax; ++depth) {
    NodePtr node = get(id);
    if (!node || node->parent() == 0) return "(no name)" + path;
    path.insert(0, "/" + node->name());
    id = node->parent();
  }
  return path.empty() ? "/" : path;
}

}  // namespace walfs
