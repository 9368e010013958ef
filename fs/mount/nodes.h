// The inodes that the kernel knows, by node id and by (st_dev, st_ino).
//
// Ids are never reused, so a late FORGET cannot hit a new inode. A node lives while its lookup
// count is not 0; the kernel counts with us (every entry reply adds one, FORGET takes away). What
// the kernel was told is in the node records, from which the next server goes on.
//
// Locks, in this order: Node::attach_mutex_, then one shard of the table. Node::mutex_ is a leaf.
// The observer is called with the node's attach_mutex_ held and no other lock.
#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "fs/mount/change_time.h"
#include "fs/mount/node_records.h"
#include "fs/mount/sync_ahead.h"
#include "fs/tracking/observer.h"
#include "replicator/base/file_descriptor.h"

namespace walfs {

// The one read-write descriptor of a regular file that all its handles share.
struct DataFile {
  FileDescriptor fd;
  bool writable = false;
};

class Node {
 public:
  Node(NodeId id, FileDescriptor path_fd, const struct stat& attributes)
      : id_(id),
        device_(attributes.st_dev),
        inode_(attributes.st_ino),
        type_(attributes.st_mode & S_IFMT),
        path_fd_(std::move(path_fd)),
        change_time_(attributes.st_mtim) {}

  NodeId id() const { return id_; }
  mode_t type() const { return type_; }
  int path_fd() const { return path_fd_.get(); }  // O_PATH
  TrackedFile* tracked() const { return tracked_.load(std::memory_order_acquire); }

  // Counts one more handle and opens the shared descriptor if there is none. Returns 0 or errno:
  // a file that can only be read opens for reading handles alone.
  int open_handle(bool for_writing);
  // Like open_handle, with a descriptor that CREATE already opened for reading and writing.
  void adopt_handle(FileDescriptor data_fd);
  // The last handle closes the shared descriptor as soon as nobody uses it any more.
  void close_handle();
  // The shared descriptor, or null while no handle is open. Stays open as long as it is held.
  std::shared_ptr<const DataFile> data() const;
  // A descriptor for one operation without a handle; null with errno set.
  std::shared_ptr<const DataFile> data_or_open(bool for_writing) const;

  SyncAhead& sync_ahead() { return sync_ahead_; }
  ChangeTime& change_time() { return change_time_; }
  // After each change of a file's bytes or size.
  void content_changed() {
    sync_ahead_.changed();
    change_time_.moved();
  }

  // Where the node was last seen, for messages only.
  void set_place(NodeId parent, std::string name);
  NodeId parent() const;
  std::string name() const;

 private:
  friend class NodeTable;
  std::shared_ptr<DataFile> open_data(bool for_writing) const;

  const NodeId id_;
  const dev_t device_;
  const ino_t inode_;
  const mode_t type_;
  const FileDescriptor path_fd_;

  SyncAhead sync_ahead_;
  ChangeTime change_time_;

  std::mutex attach_mutex_;
  bool attached_ = false;  // Under attach_mutex_.
  std::atomic<TrackedFile*> tracked_{nullptr};
  uint64_t lookups_ = 0;  // Under the mutex of its inode shard.

  mutable std::mutex mutex_;
  std::shared_ptr<DataFile> data_;
  int handles_ = 0;
  NodeId parent_ = 0;
  std::string name_;
};

using NodePtr = std::shared_ptr<Node>;

class NodeTable {
 public:
  // Attaches the root to the observer, and the nodes that a server which died has left in the
  // records; both must outlive the table.
  NodeTable(FileDescriptor root_path_fd, const struct stat& root, FileObserver& observer,
            NodeRecords& records);
  // Detaches what is left.
  ~NodeTable();
  NodeTable(const NodeTable&) = delete;
  NodeTable& operator=(const NodeTable&) = delete;

  // Null if the kernel names an id that it should have forgotten.
  NodePtr get(NodeId id) const;
  // Null if the kernel does not know the inode.
  NodePtr find(dev_t device, ino_t inode) const;
  // Adds one lookup; makes and attaches the node if it is new (path_fd is closed if not). Waits up
  // to a second while there is no room for more; null if there is none then.
  NodePtr acquire(FileDescriptor path_fd, const struct stat& attributes, const Node* parent,
                  const char* name);
  // Takes lookups away; the last one detaches the node.
  void release(NodeId id, uint64_t lookups);
  size_t size() const;
  // The path below the mount's root by the last known names, for messages.
  std::string describe(NodeId id) const;

 private:
  struct Key {
    dev_t device;
    ino_t inode;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return (key.inode * 0x9E3779B97F4A7C15ULL) ^ (key.device * 0xC2B2AE3D27D4EB4FULL);
    }
  };
  static constexpr size_t kShards = 16;
  struct InodeShard {
    mutable std::mutex mutex;
    std::unordered_map<Key, NodePtr, KeyHash> nodes;
  };
  struct IdShard {
    mutable std::mutex mutex;
    std::unordered_map<NodeId, NodePtr> nodes;
  };
  InodeShard& shard_of(const Key& key) const { return inodes_[(KeyHash{}(key) >> 32) % kShards]; }
  IdShard& shard_of(NodeId id) const { return ids_[id % kShards]; }
  NodePtr count_lookup(const Key& key, FileDescriptor& path_fd, const struct stat& attributes);
  bool has_lookups(const Node& node) const;
  void adopt(const NodeRecord& record);

  FileObserver& observer_;
  NodeRecords& records_;
  NodePtr root_;
  mutable std::array<InodeShard, kShards> inodes_;
  mutable std::array<IdShard, kShards> ids_;
};

// Opens what an O_PATH descriptor stands for anew, through /proc. Returns -1 with errno.
int reopen(int path_fd, int flags);
// Where it is now; with " (deleted)" behind it if it has no name any more.
std::string path_of_descriptor(int fd);

}  // namespace walfs
