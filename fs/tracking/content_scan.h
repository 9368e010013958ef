// Reads files while the application uses them: for the first upload, or to find what changed while
// nobody looked. Slices of a MiB are read under the file's lock, so that nobody waits for long.
// Used by one thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/tracking/tracker.h"
#include "fs/tracking/tree_scan.h"
#include "replicator/catalog.h"
#include "replicator/chunk_uploader.h"

namespace walfs {

// Compares files with what the replica has of them: afterwards only what differs is dirty, and may
// be captured. Of a file that differs in more than `part_bytes` only the last of it is: the rest
// was captured in parts. Each time when about that much was found `ship` is called, without locks,
// to bring it into the log, and to wait while too much lies there.
class ContentComparison {
 public:
  ContentComparison(Tracker& tracker, uint64_t part_bytes, std::function<void()> ship)
      : tracker_(tracker),
        part_bytes_(part_bytes),
        slice_(std::min<uint64_t>(kChunkSizeMax, part_bytes)),
        ship_(std::move(ship)) {}
  Status run(const std::vector<UnreadFile>& files, const std::atomic<bool>& stopping);
  uint64_t bytes_done() const { return bytes_done_; }

 private:
  using File = std::shared_ptr<FileState>;
  void compare(const File& file, const std::atomic<bool>& stopping);
  void read_log(FileState& file);
  std::optional<uint64_t> compare_slice(FileState& file, uint64_t offset);
  bool has_parts(const FileState& file) const;
  void take_in_parts(const File& file, const std::atomic<bool>& stopping);
  bool take_slice(const File& file, uint64_t offset);
  void take_what_was_written_meanwhile(const std::atomic<bool>& stopping);
  void end(FileState& file);
  void found(uint64_t bytes);

  Tracker& tracker_;
  const uint64_t part_bytes_;
  const uint64_t slice_;
  const std::function<void()> ship_;
  uint64_t found_ = 0;  // Since it was last shipped.
  std::atomic<uint64_t> bytes_done_{0};
};

// Uploads the content of files as chunks and tells the catalog where each lies. Small files share
// chunks. What the log says meanwhile stays as it is (I9).
class FirstUpload {
 public:
  FirstUpload(Tracker& tracker, Catalog& catalog, ChunkUploader& chunks)
      : tracker_(tracker), catalog_(catalog), chunks_(chunks) {}
  // True once everything is in the store; false if stopped.
  Result<bool> run(const std::vector<UnreadFile>& files, const std::atomic<bool>& stopping);
  uint64_t bytes_done() const { return bytes_done_; }

 private:
  struct Part {
    FileId id = kNoFile;
    uint64_t file_offset = 0;
    uint64_t size = 0;
    uint64_t chunk_offset = 0;
  };
  Status read(const UnreadFile& unread, FileState& file, const std::atomic<bool>& stopping);
  // Reads a slice at `offset`; false at the end of the file.
  Result<bool> read_slice(FileState& file, uint64_t offset);
  bool pack_slice(FileId id, uint64_t offset);
  bool send_pack();

  Tracker& tracker_;
  Catalog& catalog_;
  ChunkUploader& chunks_;
  Bytes slice_;  // Empty if it is all zeros.
  Bytes pack_;
  std::vector<Part> parts_;
  std::atomic<uint64_t> bytes_done_{0};
};

}  // namespace walfs
