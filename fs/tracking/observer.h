// What the mount tells the rest of the program about the files it serves.
//
// The mount (fs/mount) applies requests to the backing directory; an observer is told of each
// change, around it: before_* calls come before the backing file is touched (what is about to be
// destroyed can still be read), the others after the change succeeded and before the application
// gets its reply.
//
// Threads: calls come from any request thread. The kernel keeps two name operations on one
// directory, and two truncations or writes of the same page of one file, from running at once;
// everything else may be concurrent. No call fails, and none may wait for the store or for the
// mount itself (the kernel waits for us meanwhile).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "replicator/base/bytes.h"

namespace walfs {

class TrackedFile;  // The observer's state of one inode; opaque to the mount, which only passes
                    // pointers on.

class FileObserver {
 public:
  virtual ~FileObserver() = default;

  // An inode became known to the kernel (lookup, create, ...). path_fd is an O_PATH or better
  // descriptor of it that stays open until detach(). parent and name say how it was found (parent
  // is null for the root and O_TMPFILE). May return null: the file is then not followed, and null
  // is passed in later calls. Called again for an inode that was attached before only after
  // detach().
  virtual TrackedFile* attach(int path_fd, const struct stat& attributes, TrackedFile* parent,
                              const char* name) = 0;
  // The same for an inode that the kernel knows from a server that died: by its path relative to
  // the root, empty if it has no name any more, and with its handles that can write.
  virtual TrackedFile* attach_again(int path_fd, const struct stat& attributes,
                                    const std::string& path, unsigned writers) = 0;
  virtual void detach(TrackedFile* file) = 0;

  // Handles that can write, counted by the observer: each open is followed by one closed_writable
  // (at RELEASE).
  virtual void opened_writable(TrackedFile* file) = 0;
  virtual void closed_writable(TrackedFile* file) = 0;

  // WRITE of data at offset.
  virtual void before_write(TrackedFile* file, uint64_t offset, ByteView data) = 0;
  virtual void wrote(TrackedFile* file, uint64_t offset, uint64_t size) = 0;
  // Any other change of bytes: fallocate (also holes, collapse and insert: size then reaches to the
  // end of the file) and the target of copy_file_range.
  virtual void before_range_change(TrackedFile* file, uint64_t offset, uint64_t size) = 0;
  virtual void range_changed(TrackedFile* file, uint64_t offset, uint64_t size) = 0;
  virtual void before_truncate(TrackedFile* file, uint64_t new_size) = 0;
  virtual void truncated(TrackedFile* file, uint64_t new_size) = 0;
  // FSYNC by the application: everything written to the file before has arrived. Called before the
  // backing fsync.
  virtual void before_fsync(TrackedFile* file) = 0;
  virtual void synced(TrackedFile* file) = 0;

  // Names. `created` covers CREATE, MKNOD, MKDIR and SYMLINK (after attach); `linked` also
  // O_TMPFILE's linkat.
  virtual void created(TrackedFile* parent, const char* name, TrackedFile* file) = 0;
  virtual void linked(TrackedFile* parent, const char* name, TrackedFile* file) = 0;
  // file is null when the mount does not know the inode that the name stands for.
  virtual void before_unlink(TrackedFile* parent, const char* name, TrackedFile* file) = 0;
  virtual void unlinked(TrackedFile* parent, const char* name, TrackedFile* file) = 0;
  // flags as renameat2(2) takes them; replaced is what stood at the new name (null: nothing, or not
  // known).
  virtual void before_rename(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                             const char* new_name, TrackedFile* file, TrackedFile* replaced,
                             unsigned flags) = 0;
  virtual void renamed(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                       const char* new_name, TrackedFile* file, TrackedFile* replaced,
                       unsigned flags) = 0;
  // Mode, owner, times or extended attributes changed.
  virtual void attributes_changed(TrackedFile* file) = 0;
};

}  // namespace walfs
