// A SQLite VFS that records what is done to the write-ahead log, call by call, so that a test can
// show the log as it was at any moment. One at a time.
#pragma once

#include <sqlite3.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "replicator/base/bytes.h"

namespace walfs::testing {

struct WalEvent {
  enum class Kind { kWrite, kTruncate, kSync, kDelete };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;  // Or the new size.
  Bytes data;
};

class RecordingVfs {
 public:
  static constexpr const char* kName = "recording";

  // Without powersafe overwrites SQLite pads a synced transaction to the end of a sector.
  explicit RecordingVfs(bool powersafe) : real_(sqlite3_vfs_find(nullptr)), vfs_(*real_) {
    self = this;
    powersafe_ = powersafe;
    vfs_.zName = kName;
    vfs_.xOpen = on_open;
    vfs_.xDelete = on_delete;
    sqlite3_vfs_register(&vfs_, 0);
  }
  ~RecordingVfs() {
    sqlite3_vfs_unregister(&vfs_);
    self = nullptr;
  }
  RecordingVfs(const RecordingVfs&) = delete;
  RecordingVfs& operator=(const RecordingVfs&) = delete;

  std::vector<WalEvent>& events() { return events_; }

 private:
  struct File {
    const sqlite3_io_methods* real = nullptr;
    sqlite3_io_methods patched{};
  };

  static int on_open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
    const int rc = self->real_->xOpen(self->real_, name, file, flags, out);
    if (rc != SQLITE_OK || name == nullptr) return rc;
    File& entry = self->files_[file];
    entry.real = file->pMethods;
    entry.patched = *file->pMethods;
    entry.patched.xClose = on_close;
    entry.patched.xDeviceCharacteristics = on_characteristics;
    entry.patched.xSync = do_not_sync;
    if (std::string_view(name).ends_with("-wal")) {
      entry.patched.xWrite = on_write;
      entry.patched.xTruncate = on_truncate;
      entry.patched.xSync = on_sync;
    }
    file->pMethods = &entry.patched;
    return rc;
  }
  static int on_close(sqlite3_file* file) {
    const sqlite3_io_methods* real = self->files_[file].real;
    self->files_.erase(file);
    file->pMethods = real;
    return real->xClose(file);
  }
  static int on_characteristics(sqlite3_file* file) {
    const int all = self->files_[file].real->xDeviceCharacteristics(file);
    return self->powersafe_ ? all : all & ~SQLITE_IOCAP_POWERSAFE_OVERWRITE;
  }
  static int on_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    self->events_.push_back(
        {WalEvent::Kind::kWrite, static_cast<uint64_t>(offset), Bytes(bytes, bytes + size)});
    return self->files_[file].real->xWrite(file, data, size, offset);
  }
  static int on_truncate(sqlite3_file* file, sqlite3_int64 size) {
    self->events_.push_back({WalEvent::Kind::kTruncate, static_cast<uint64_t>(size), {}});
    return self->files_[file].real->xTruncate(file, size);
  }
  // Recorded and not done: no test cuts the power.
  static int on_sync(sqlite3_file*, int) {
    self->events_.push_back({WalEvent::Kind::kSync, 0, {}});
    return SQLITE_OK;
  }
  static int do_not_sync(sqlite3_file*, int) { return SQLITE_OK; }
  static int on_delete(sqlite3_vfs*, const char* name, int) {
    if (std::string_view(name).ends_with("-wal"))
      self->events_.push_back({WalEvent::Kind::kDelete, 0, {}});
    return self->real_->xDelete(self->real_, name, 0);
  }

  static inline RecordingVfs* self = nullptr;
  sqlite3_vfs* real_;
  sqlite3_vfs vfs_;
  bool powersafe_ = true;
  std::map<sqlite3_file*, File> files_;
  std::vector<WalEvent> events_;
};

}  // namespace walfs::testing
