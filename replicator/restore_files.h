// The files that a restore writes: made beneath one new directory, filled block by block from
// several threads, proved against their checksums, and given their owners, modes, times and
// extended attributes at the end.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/restore_plan.h"

namespace walfs {

class RestoredTree {
 public:
  // `directory` is an open, empty directory; paths are those of plan_paths, perhaps fewer. Both
  // outlive the tree.
  RestoredTree(int directory, const RestorePlan& plan, const std::vector<PlannedPath>& paths);

  // Directories and empty files at their full size.
  Status create();
  // Writes content of a block of a file, after checking it if `hash` is given. Thread-safe.
  Status write_block(FileId id, uint64_t index, ByteView data, std::optional<uint64_t> hash);
  // Compares the checksum of every file with the plan.
  Status verify() const;
  // Links, special files and attributes; afterwards the tree is complete.
  Status finish();
  // True for files that are restored.
  bool wants(FileId id) const { return files_.contains(id); }

 private:
  struct File {
    std::string path;
    const PlannedFile* planned = nullptr;
    std::atomic<uint64_t> checksum{0};
    std::shared_ptr<FileDescriptor> opened;  // Under mutex_.
  };
  Result<FileDescriptor> open_beneath(const std::string& path, int flags, mode_t mode = 0) const;
  // The file for writing; it stays open for the blocks that follow.
  Result<std::shared_ptr<FileDescriptor>> open_for_writing(File& file);
  Status create_one(const PlannedPath& path);
  Status create_special(const std::string& path, const Attributes& attributes);
  Status set_attributes(const std::string& path, const Attributes& attributes);

  int directory_;
  const RestorePlan& plan_;
  const std::vector<PlannedPath>& paths_;
  std::map<FileId, std::unique_ptr<File>> files_;  // Regular files by id, with their first path.
  std::mutex mutex_;
  std::deque<File*> opened_;  // Those that are open, the oldest first.
};

}  // namespace walfs
