// The observer of a paused server: captures nothing, and only notes which files must be compared
// with the replica later.
//
// Names and attributes are found by the walk of the whole tree that the next server begins with, so
// only what the walk takes for unchanged counts here: content. A companion's content is its
// database's. Marks are made before what they stand for is done, and never taken back.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "fs/tracking/file_state.h"
#include "fs/tracking/observer.h"
#include "fs/tracking/touched_files.h"

namespace walfs {

class TouchedObserver final : public FileObserver {
 public:
  // With commits_wait each request that may end a transaction is told to the gate
  // (commit_gate.h).
  TouchedObserver(TouchedFiles::Table& touched, int root_fd, bool commits_wait)
      : touched_(touched), root_fd_(root_fd), commits_wait_(commits_wait) {}

  TrackedFile* attach(int path_fd, const struct stat& attributes, TrackedFile* parent,
                      const char* name) override;
  TrackedFile* attach_again(int path_fd, const struct stat& attributes, const std::string& path,
                            unsigned writers) override;
  void detach(TrackedFile* file) override;
  void opened_writable(TrackedFile*) override {}
  void closed_writable(TrackedFile*) override {}
  void before_write(TrackedFile* file, uint64_t offset, ByteView data) override;
  void wrote(TrackedFile* file, uint64_t offset, uint64_t size) override;
  void before_range_change(TrackedFile* file, uint64_t offset, uint64_t size) override;
  void range_changed(TrackedFile*, uint64_t, uint64_t) override {}
  void before_truncate(TrackedFile* file, uint64_t new_size) override;
  void truncated(TrackedFile* file, uint64_t new_size) override;
  void before_fsync(TrackedFile*) override {}
  void synced(TrackedFile* file) override;
  void created(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void linked(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void before_unlink(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void unlinked(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void before_rename(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                     const char* new_name, TrackedFile* file, TrackedFile* replaced,
                     unsigned flags) override;
  void renamed(TrackedFile* parent, const char* name, TrackedFile* new_parent, const char* new_name,
               TrackedFile* file, TrackedFile* replaced, unsigned flags) override;
  void attributes_changed(TrackedFile*) override {}

 private:
  void mark(const FileState& file);
  void mark_name(const FileState& parent, const std::string& name);
  void mark_database_of(const FileState* parent, const std::string& name);
  void note_transaction(const FileState& companion);
  void mark_inode_at(const FileState& parent, const std::string& name);
  void note_possible_commit(TrackedFile* file, bool of_journal);

  std::mutex mutex_;  // For all below, and for places and descriptors of all files.
  TouchedFiles touched_;
  const int root_fd_;
  const bool commits_wait_;
};

}  // namespace walfs
