// What a restore has fetched, so that one that was interrupted can go on: of each chunk, a proof of
// the blocks that it gave, as a number. Nothing in here is believed: a chunk counts as fetched when
// the blocks on the disk still give the same number. Blocks of the log need no note, since the plan
// has their hashes.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "replicator/base/digest.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class RestoreProofs {
 public:
  // Reads what there is in the open file and adds to it. A file that ends in the middle of a note,
  // or that somebody damaged, has lost these notes and no more.
  explicit RestoreProofs(FileDescriptor file);

  // Of an earlier restore.
  std::optional<uint64_t> find(const Sha256Digest& chunk) const;
  // Thread-safe. A note that cannot be written is lost, which costs fetching the chunk again.
  void add(const Sha256Digest& chunk, uint64_t proof);

 private:
  FileDescriptor file_;
  uint64_t count_ = 0;                                // Of whole notes in the file.
  std::unordered_map<std::string, uint64_t> proofs_;  // By digest.
  std::mutex mutex_;
};

}  // namespace walfs
