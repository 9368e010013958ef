// What the next server has to know of files: which were changed since the log was last sealed, so
// that it compares these with the replica and leaves the others alone; and which databases are
// known to be synced by their users, so that it need not wait for pages which the kernel may still
// have: what is not in the file then is in the log.
//
// The table lies in memory that outlives the server. Not thread-safe: the owner has a lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/tracking/inode_set.h"

namespace walfs {

class TouchedFiles {
 public:
  static constexpr size_t kFilesMax = InodeSet::kInodesMax;

  // Zero is an empty table.
  struct Table {
    std::atomic<uint64_t> everything;  // Not 0: there were too many to be listed.
    InodeSet::Places touched;
    InodeSet::Places synced;
  };

  explicit TouchedFiles(Table& table)
      : table_(table), touched_(table.touched), synced_(table.synced) {}

  void add(uint64_t inode) {
    if (!touched_.add(inode)) table_.everything = 1;
  }
  void remove(uint64_t inode) { touched_.remove(inode); }
  bool contains(uint64_t inode) const { return everything() || touched_.contains(inode); }
  // Whether every file must be taken for touched: too many were, or it is not known.
  bool everything() const { return table_.everything != 0; }
  void set_everything(bool everything) { table_.everything = everything ? 1 : 0; }
  std::vector<uint64_t> all() const { return touched_.all(); }

  // A database, or its log, was synced since the log's header was written, or since its last
  // transaction began. Forgotten when there is no room.
  void note_synced(uint64_t inode) { synced_.add(inode); }
  // Its log has a new header, or a transaction begins, or ended without a sync.
  void note_unsynced(uint64_t inode) { synced_.remove(inode); }
  bool is_synced(uint64_t inode) const { return synced_.contains(inode); }

 private:
  Table& table_;
  InodeSet touched_;
  InodeSet synced_;
};

}  // namespace walfs
