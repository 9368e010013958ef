// Reads files while the application uses them: for the first upload, or to find what changed while
// nobody looked. Slices of a MiB are read under the file's lock, so that nobody waits for long.
// Used by one thread.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "fs/tracking/tracker.h"
#include "fs/tracking/tree_scan.h"
#include "replicator/catalog.h"
#include "replicator/chunk_uploader.h"

namespace walfs {

// Compares files with what the replica has of them: afterwards only what differs is dirty, and may
// be captured.
class ContentComparison {
 public:
  explicit ContentComparison(Tracker& tracker) : tracker_(tracker) {}
  void run(const std::vector<UnreadFile>& files, const std::atomic<bool>& stopping);
  uint64_t bytes_done() const { return bytes_done_; }

 private:
  void compare(const UnreadFile& file, const std::atomic<bool>& stopping);
  Tracker& tracker_;
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
  Status read(const UnreadFile& file, const std::atomic<bool>& stopping);
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
