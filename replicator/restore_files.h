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
  struct File;

 public:
  // `directory` is an open directory, which may hold what keep_what_is_planned (see
  // restore_leftovers.h) has kept; paths are those of plan_paths, perhaps fewer. Both outlive the
  // tree.
  RestoredTree(int directory, const RestorePlan& plan, const std::vector<PlannedPath>& paths);

  // Directories and files at their full size. Where the plan has no block, they have zeros.
  Status create();
  // Writes what lies side by side in memory and in a file at once. The tree is thread-safe, one
  // writer is not.
  class Writer {
   public:
    explicit Writer(RestoredTree& tree) : tree_(tree) {}
    // Checks a block of a file if `hash` is given, and counts it for the file's checksum. Gives its
    // hash. `data` stays until flush().
    Result<uint64_t> add(FileId id, uint64_t index, ByteView data, std::optional<uint64_t> hash);
    Status flush();

   private:
    RestoredTree& tree_;
    File* file_ = nullptr;
    ByteView run_;
    uint64_t offset_ = 0;  // In the file.
  };
  // Of a block that may be there from an earlier restore. Thread-safe.
  Result<uint64_t> hash_of_block(FileId id, uint64_t index);
  // Counts a block that is there already.
  void count_block(FileId id, uint64_t hash) { files_.at(id)->checksum += hash; }
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
    bool earlier = false;  // It may have content already.
    std::atomic<uint64_t> checksum{0};
    std::shared_ptr<FileDescriptor> opened;  // Under mutex_.
  };
  // The file; it stays open for the blocks that follow.
  Result<std::shared_ptr<FileDescriptor>> open_file(File& file);
  Status create_one(const PlannedPath& path);
  Status create_file(const PlannedPath& path, const PlannedFile& planned);

  int directory_;
  const RestorePlan& plan_;
  const std::vector<PlannedPath>& paths_;
  std::map<FileId, std::unique_ptr<File>> files_;  // Regular files by id, with their first path.
  std::mutex mutex_;
  std::deque<File*> opened_;  // Those that are open, the oldest first.
};

}  // namespace walfs
