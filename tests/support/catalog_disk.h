// The disk beneath the catalogs: SQLite's writes and syncs fail when a test says so, as on a disk
// that is full or ill. One at a time, one thread.
#pragma once

#include <sqlite3.h>

#include <map>
#include <memory>
#include <random>
#include <string_view>

#include "replicator/base/sqlite.h"

namespace walfs::test {

class CatalogDisk {
 public:
  // For catalogs that are opened from now on.
  CatalogDisk() {
    // Opening any database registers the file system that catalogs are opened with.
    static_cast<void>(SqlDatabase::open(":memory:").ok());
    vfs_ = sqlite3_vfs_find("walfs-verbatim");
    open_ = vfs_->xOpen;
    self = this;
    vfs_->xOpen = on_open;
  }
  ~CatalogDisk() {
    vfs_->xOpen = open_;
    self = nullptr;
  }
  CatalogDisk(const CatalogDisk&) = delete;
  CatalogDisk& operator=(const CatalogDisk&) = delete;

  // From now on so many calls of a hundred fail.
  void fail(uint32_t percent, uint32_t seed) {
    percent_ = percent;
    random_.seed(seed);
  }
  void heal() { percent_ = 0; }
  bool failing() const { return percent_ > 0; }
  size_t faults() const { return faults_; }

 private:
  // Stands in the file where the real methods stood.
  struct Patched {
    sqlite3_io_methods methods;
    const sqlite3_io_methods* real;
  };

  static int on_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
    const int rc = self->open_(vfs, name, file, flags, out);
    const bool ours = name != nullptr && std::string_view(name).find("catalog.db") != SIZE_MAX;
    if (rc == SQLITE_OK && ours) file->pMethods = &patched(file->pMethods)->methods;
    return rc;
  }
  // Files may outlive this object, and so do their methods.
  static const Patched* patched(const sqlite3_io_methods* real) {
    static std::map<const sqlite3_io_methods*, std::unique_ptr<Patched>> all;
    auto& entry = all[real];
    if (entry == nullptr) {
      entry = std::make_unique<Patched>(Patched{*real, real});
      entry->methods.xWrite = on_write;
      entry->methods.xTruncate = on_truncate;
      entry->methods.xSync = on_sync;
    }
    return entry.get();
  }
  static const sqlite3_io_methods& real(sqlite3_file* file) {
    return *reinterpret_cast<const Patched*>(file->pMethods)->real;
  }
  static bool fails() {
    if (self == nullptr || self->random_() % 100 >= self->percent_) return false;
    ++self->faults_;
    return true;
  }

  static int on_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
    if (fails()) return self->random_() % 4 == 0 ? SQLITE_IOERR_WRITE : SQLITE_FULL;
    return real(file).xWrite(file, data, size, offset);
  }
  static int on_truncate(sqlite3_file* file, sqlite3_int64 size) {
    return fails() ? SQLITE_IOERR_TRUNCATE : real(file).xTruncate(file, size);
  }
  static int on_sync(sqlite3_file* file, int flags) {
    return fails() ? SQLITE_IOERR_FSYNC : real(file).xSync(file, flags);
  }

  static inline CatalogDisk* self = nullptr;
  sqlite3_vfs* vfs_ = nullptr;
  int (*open_)(sqlite3_vfs*, const char*, sqlite3_file*, int, int*) = nullptr;
  uint32_t percent_ = 0;
  std::minstd_rand random_;
  size_t faults_ = 0;
};

}  // namespace walfs::test
