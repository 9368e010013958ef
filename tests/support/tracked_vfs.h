// A SQLite VFS over a TrackedMount: what a real SQLite writes goes through the mount's operations.
// Locks and shared memory stay those of the usual VFS on the backing files. One at a time, one
// thread.
#pragma once

#include <sqlite3.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "tests/support/tracked_mount.h"

namespace walfs::test {

class TrackedVfs {
 public:
  static constexpr const char* kName = "tracked";

  // `root` is the backing directory; databases are opened by their paths beneath it.
  TrackedVfs(TrackedMount& mount, std::string root)
      : mount_(mount), root_(std::move(root)), real_(sqlite3_vfs_find(nullptr)), vfs_(*real_) {
    self = this;
    vfs_.zName = kName;
    vfs_.xOpen = on_open;
    vfs_.xDelete = on_delete;
    vfs_.xAccess = on_access;
    sqlite3_vfs_register(&vfs_, 0);
  }
  ~TrackedVfs() {
    sqlite3_vfs_unregister(&vfs_);
    self = nullptr;
  }
  TrackedVfs(const TrackedVfs&) = delete;
  TrackedVfs& operator=(const TrackedVfs&) = delete;

  // Called after each call that changed a file.
  std::function<void()> after_change;
  // The application is dead: nothing that it still tries has an effect. Files can be closed.
  bool dead = false;

 private:
  struct File {
    const sqlite3_io_methods* real = nullptr;
    sqlite3_io_methods patched{};
    std::string path;
    NodeId node = 0;
    NodeId shm = 0;
  };

  // The path relative to the root, or "" for files elsewhere.
  std::string relative(const char* path) const {
    const std::string text = path != nullptr ? path : "";
    return text.starts_with(root_ + "/") ? text.substr(root_.size() + 1) : "";
  }
  static void changed() {
    if (self->after_change) self->after_change();
  }

  static int on_open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
    const std::string path = self->relative(name);
    if (self->dead && !path.empty()) return SQLITE_CANTOPEN;
    const bool create = (flags & SQLITE_OPEN_CREATE) != 0;
    if (path.empty() || (!create && !self->mount_.exists(path)))
      return self->real_->xOpen(self->real_, name, file, flags, out);
    const NodeId node = self->mount_.open(path);
    const int rc = self->real_->xOpen(self->real_, name, file,
                                      flags & ~(SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE), out);
    if (rc != SQLITE_OK) {
      self->mount_.close(node);
      return rc;
    }
    File& entry = self->files_[file];
    entry = {file->pMethods, *file->pMethods, path, node, 0};
    entry.patched.xClose = on_close;
    entry.patched.xRead = on_read;
    entry.patched.xWrite = on_write;
    entry.patched.xTruncate = on_truncate;
    entry.patched.xSync = on_sync;
    entry.patched.xFileSize = on_size;
    if (entry.patched.iVersion >= 2) {
      entry.patched.xShmMap = on_shm_map;
      entry.patched.xShmUnmap = on_shm_unmap;
    }
    if (entry.patched.iVersion >= 3) entry.patched.xFetch = on_fetch;
    file->pMethods = &entry.patched;
    changed();
    return rc;
  }
  static int on_close(sqlite3_file* file) {
    const File entry = self->files_[file];
    self->files_.erase(file);
    file->pMethods = entry.real;
    if (self->dead) return entry.real->xClose(file);
    if (entry.shm != 0) self->mount_.close(entry.shm);
    self->mount_.close(entry.node);
    const int rc = entry.real->xClose(file);
    changed();
    return rc;
  }
  static int on_read(sqlite3_file* file, void* data, int size, sqlite3_int64 offset) {
    if (self->dead) return SQLITE_IOERR_READ;
    const Bytes bytes = self->mount_.read(self->files_[file].node, static_cast<uint64_t>(offset),
                                          static_cast<size_t>(size));
    std::memset(data, 0, static_cast<size_t>(size));
    if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
    return bytes.size() == static_cast<size_t>(size) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
  }
  static int on_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
    if (self->dead) return SQLITE_IOERR_WRITE;
    self->mount_.write(self->files_[file].node, static_cast<uint64_t>(offset),
                       ByteView(static_cast<const uint8_t*>(data), static_cast<size_t>(size)));
    changed();
    return SQLITE_OK;
  }
  static int on_truncate(sqlite3_file* file, sqlite3_int64 size) {
    if (self->dead) return SQLITE_IOERR_TRUNCATE;
    self->mount_.truncate(self->files_[file].node, static_cast<uint64_t>(size));
    changed();
    return SQLITE_OK;
  }
  static int on_sync(sqlite3_file* file, int) {
    if (self->dead) return SQLITE_IOERR_FSYNC;
    self->mount_.sync(self->files_[file].node);
    changed();
    return SQLITE_OK;
  }
  static int on_size(sqlite3_file* file, sqlite3_int64* size) {
    if (self->dead) return SQLITE_IOERR_FSTAT;
    *size = static_cast<sqlite3_int64>(self->mount_.size(self->files_[file].node));
    return SQLITE_OK;
  }
  static int on_fetch(sqlite3_file*, sqlite3_int64, int, void** page) {
    *page = nullptr;
    return SQLITE_OK;
  }
  static int on_shm_map(sqlite3_file* file, int region, int size, int extend,
                        void volatile** mapped) {
    File& entry = self->files_[file];
    if (self->dead) return SQLITE_IOERR_SHMMAP;
    if (entry.shm == 0) entry.shm = self->mount_.open(entry.path + "-shm");
    return entry.real->xShmMap(file, region, size, extend, mapped);
  }
  static int on_shm_unmap(sqlite3_file* file, int remove) {
    File& entry = self->files_[file];
    if (self->dead) return entry.real->xShmUnmap(file, 0);
    if (entry.shm != 0) {
      self->mount_.close(entry.shm);
      entry.shm = 0;
      if (remove != 0) self->mount_.unlink(entry.path + "-shm");
    }
    const int rc = entry.real->xShmUnmap(file, 0);
    changed();
    return rc;
  }
  static int on_delete(sqlite3_vfs*, const char* name, int sync) {
    const std::string path = self->relative(name);
    if (path.empty()) return self->real_->xDelete(self->real_, name, sync);
    if (self->dead) return SQLITE_IOERR_DELETE;
    if (!self->mount_.exists(path)) return SQLITE_IOERR_DELETE_NOENT;
    self->mount_.unlink(path);
    changed();
    return SQLITE_OK;
  }
  static int on_access(sqlite3_vfs*, const char* name, int flags, int* out) {
    const std::string path = self->relative(name);
    if (path.empty() || flags != SQLITE_ACCESS_EXISTS)
      return self->real_->xAccess(self->real_, name, flags, out);
    if (self->dead) return SQLITE_IOERR_ACCESS;
    const NodeId node = self->mount_.find(path);
    *out = node != 0 && self->mount_.size(node) > 0 ? 1 : 0;
    return SQLITE_OK;
  }

  static inline TrackedVfs* self = nullptr;
  TrackedMount& mount_;
  const std::string root_;
  sqlite3_vfs* real_;
  sqlite3_vfs vfs_;
  std::map<sqlite3_file*, File> files_;
};

}  // namespace walfs::test
