// The file operations of the mount, applied to the backing directory: what a request means, with
// no word about how it arrived. fs/mount/adapter.cc translates between this and libfuse.
//
// Every operation returns 0 or an errno, and tells the observer of the change it makes. Any thread
// may call any of them. Names come from the kernel: no '/', not "." or "..", at most 255 bytes.
#pragma once

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "fs/mount/caller.h"
#include "fs/mount/nodes.h"
#include "fs/tracking/observer.h"
#include "replicator/base/file_descriptor.h"

namespace walfs {

// The state directory's name: in the root it is invisible and cannot be made.
constexpr const char* kStateDirectory = ".walfs";

// How long the kernel may keep what it knows of names and attributes, in seconds: the mount is the
// only way to the files, so it stays true.
constexpr unsigned kCacheForever = 1'000'000'000;

// One looked-up inode; the kernel holds one more lookup of it afterwards.
struct Entry {
  NodeId node = 0;
  struct stat attributes = {};
};

// SETATTR. `valid` says which fields count.
struct AttributeChange {
  enum Field : unsigned {
    kMode = 1U << 0,
    kUid = 1U << 1,
    kGid = 1U << 2,
    kSize = 1U << 3,
    kAtime = 1U << 4,
    kMtime = 1U << 5,
    kAtimeNow = 1U << 6,
    kMtimeNow = 1U << 7,
    kClearSuidSgid = 1U << 8,  // A truncation by somebody who may not keep the bits.
  };
  unsigned valid = 0;
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t size = 0;
  struct timespec atime = {};
  struct timespec mtime = {};
};

struct DirectoryItem {
  const char* name;
  ino_t inode;
  mode_t type;         // S_IFMT bits, 0 if not known.
  uint64_t next;       // Offset of the item after this one.
  const Entry* entry;  // Only in read_directory_plus; null for "." and "..".
};

struct CloseStream {
  void operator()(DIR* stream) const { closedir(stream); }
};

class Operations {
 public:
  // backing_fd (a directory) is only borrowed for the constructor; the others must outlive this.
  Operations(int backing_fd, FileObserver& observer, NodeRecords& records);

  // Names (operations_names.cc)
  int lookup(NodeId parent, const char* name, Entry& out);
  void forget(NodeId node, uint64_t lookups);
  int make_node(const Caller& caller, NodeId parent, const char* name, mode_t mode, dev_t device,
                Entry& out);
  int make_directory(const Caller& caller, NodeId parent, const char* name, mode_t mode,
                     Entry& out);
  int make_symlink(const Caller& caller, const char* target, NodeId parent, const char* name,
                   Entry& out);
  int read_symlink(NodeId node, std::string& out);
  int make_link(NodeId node, NodeId new_parent, const char* new_name, Entry& out);
  int unlink(NodeId parent, const char* name, bool directory);
  int rename(NodeId parent, const char* name, NodeId new_parent, const char* new_name,
             unsigned flags);

  // Attributes (operations_attributes.cc)
  int get_attributes(NodeId node, struct stat& out);
  int set_attributes(NodeId node, const AttributeChange& change, struct stat& out);
  int statistics(NodeId node, struct statvfs& out);

  // Data (operations_data.cc). Handles are counted per node; there is nothing else to a handle.
  int create(const Caller& caller, NodeId parent, const char* name, mode_t mode, int flags,
             Entry& out);
  // O_TMPFILE: a file in no directory yet. It gets its name by make_link.
  int create_unnamed(const Caller& caller, NodeId parent, mode_t mode, int flags, Entry& out);
  int open(NodeId node, int flags, bool clear_suid_sgid);
  void release(NodeId node, int flags);
  int read(NodeId node, uint64_t offset, std::span<uint8_t> buffer, size_t& out_size);
  // whole: part of the data written is an error (the page cache would forget the rest).
  int write(NodeId node, uint64_t offset, ByteView data, bool clear_suid_sgid, bool whole,
            size_t& out_size);
  // Returns what is left to do, and may take long, before `done` is called; or nothing: done was
  // called, or will be by the thread that is syncing ahead.
  std::function<void()> sync(const Caller& caller, NodeId node, bool data_only,
                             SyncAhead::Done done);
  // After the answer to a write: the work of syncing ahead, or nothing if no sync is expected.
  std::function<void()> sync_ahead(NodeId node);
  int allocate(NodeId node, int mode, uint64_t offset, uint64_t size, bool clear_suid_sgid);
  int seek(NodeId node, int64_t offset, int whence, int64_t& out_offset);
  int copy_range(NodeId from, uint64_t from_offset, NodeId to, uint64_t to_offset, size_t size,
                 bool clear_suid_sgid, size_t& out_size);

  // Directories (operations_directories.cc). There are no handles: an offset says it all.
  // Calls take() for each item from `offset` on until it returns false. With plus, an item that
  // take() refuses is forgotten again.
  int read_directory(NodeId node, uint64_t offset, bool plus,
                     const std::function<bool(const DirectoryItem&)>& take);
  int sync_directory(NodeId node, bool data_only);

  // Extended attributes (operations_xattrs.cc). A buffer of size 0 asks for the size.
  int set_xattr(NodeId node, const char* name, ByteView value, int flags);
  int get_xattr(NodeId node, const char* name, std::span<char> buffer, size_t& out_size);
  int list_xattrs(NodeId node, std::span<char> buffer, size_t& out_size);
  int remove_xattr(NodeId node, const char* name);

  const NodeTable& nodes() const { return nodes_; }
  // Whether each write(2) is to arrive at once, and not when the kernel writes its pages back.
  void set_write_through(bool write_through) { write_through_ = write_through; }
  bool write_through() const { return write_through_; }
  // Whether the kernel has the times of files (ChangeTime); if not, the backing directory has.
  void set_kernel_keeps_times(bool keeps) { kernel_keeps_times_ = keeps; }
  // FSYNC requests of this process only wait for the writes before them.
  void set_flusher_pid(pid_t pid) { flusher_pid_ = pid; }

 private:
  // An open directory that a listing will probably go on with.
  struct DirectoryStream {
    NodeId node = 0;
    uint64_t position = 0;
    std::unique_ptr<DIR, CloseStream> stream;
  };

  bool hidden(NodeId parent, const char* name) const;
  // Removes what this request has made, and gives the error.
  static int undo(const Node& parent, const char* name, int error);
  int enter(const Node& parent, const char* name, Entry& out);
  NodePtr known_child(const Node& parent, const char* name) const;
  // Calls make() as the caller. What a server that died has made is not made again.
  template <typename Make>
  int make(const Caller& caller, NodeId parent, const char* name, Entry& out, Make&& make);
  int truncate(Node& node, uint64_t size, bool clear_suid_sgid);
  int change_mode_owner_times(Node& node, const AttributeChange& change);
  // After changes of a file's content: gives it the time that applications see.
  void settle_change_time(Node& node);
  DirectoryStream take_stream(const Node& node, uint64_t offset);
  void keep_stream(DirectoryStream stream);

  FileObserver& observer_;
  NodeTable nodes_;
  std::atomic<pid_t> flusher_pid_{-1};
  bool write_through_ = false;
  bool kernel_keeps_times_ = false;
  std::mutex streams_mutex_;
  std::list<DirectoryStream> streams_;  // The one used last comes first.
};

// Clears the suid bit, and the sgid bit of a file that its group may execute, as write(2) does.
void clear_suid_sgid_bits(int fd);

}  // namespace walfs
