// A commit: what one file's content became at a moment that was consistent for it, waiting for its
// point.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replicator/change.h"

namespace walfs {

// Memory for the blocks of one commit. A large one lies in an unlinked file of the spool, mapped,
// so that the kernel can take its pages out of memory; views stay valid as long as the buffer
// lives.
class CommitBuffer {
 public:
  // Room for `size` bytes; `spool` is the directory for large buffers.
  static std::unique_ptr<CommitBuffer> make(size_t size, const std::string& spool);
  ~CommitBuffer();
  CommitBuffer(const CommitBuffer&) = delete;
  CommitBuffer& operator=(const CommitBuffer&) = delete;
  uint8_t* data() { return data_; }
  size_t size() const { return size_; }
  // Of all that there are in this process.
  static uint64_t bytes_in_use();

 private:
  CommitBuffer() = default;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
};

// Where in a write-ahead log a commit ends. Generations count the log's restarts.
struct WalPoint {
  uint64_t generation = 0;
  uint32_t frame = 0;
  auto operator<=>(const WalPoint&) const = default;
};

struct Commit {
  // Blocks of a file as they were found (capture_part): it is whole with a later commit that is not
  // torn.
  bool torn = false;
  // What the first upload has read of the file is perhaps from the middle of something; with this
  // commit it is whole.
  bool settles_scan = false;
  uint64_t order = 0;           // Place among all events of the volume that a request made.
  std::optional<WalPoint> wal;  // Set for transactions found in a log.
  uint32_t block_size = 0;
  uint64_t size = 0;
  bool reset = false;
  bool database = false;
  std::optional<uint64_t> checksum;
  std::vector<BlockChange> blocks;                     // Of two for one block the later counts.
  std::vector<std::unique_ptr<CommitBuffer>> buffers;  // Hold the blocks' bytes.
};

// Several commits of one file, in their order, as one change. Takes the buffers over, which the
// change's blocks need.
SetContent merge_commits(FileId id, std::vector<Commit>& commits,
                         std::vector<std::unique_ptr<CommitBuffer>>& buffers);

}  // namespace walfs
