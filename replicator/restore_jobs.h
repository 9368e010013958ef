// What a restore has to fetch: which parts of which objects become which blocks of which files.
// Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replicator/restore_plan.h"

namespace walfs {

// One block of a file, as it lies in the decoded bytes of an object.
struct Piece {
  FileId id = kNoFile;
  uint64_t block = 0;
  uint32_t offset = 0;
  uint32_t size = 0;
  std::optional<uint64_t> hash;  // Of the block; not known of what a chunk gives.
};

// One frame of a segment, or one chunk, which gives some blocks.
struct Job {
  bool is_chunk = false;
  uint32_t segment = 0;  // Index into the route's segments.
  uint32_t object = 0;   // The frame of the segment, or the chunk of the plan.
  uint64_t bytes = 0;    // Of the blocks.
  // Where its blocks are in the list.
  size_t first = 0;
  size_t end = 0;
};

// The jobs for the files that are wanted; chunks first. What is kept for each is a few bytes for an
// extent of a snapshot or a block of the log; the plan has the rest, and outlives the list.
class JobList {
 public:
  JobList(const RestorePlan& plan, const std::function<bool(FileId)>& wants);
  const std::vector<Job>& jobs() const { return jobs_; }
  // By file and block.
  std::vector<Piece> pieces(const Job& job) const;

 private:
  struct ChunkExtent {
    uint32_t chunk = 0;
    uint32_t extent = 0;  // Of the file.
    FileId id = kNoFile;
  };
  struct LogBlock {
    uint32_t segment = 0;
    uint32_t frame = 0;
    FileId id = kNoFile;
    uint64_t block = 0;
  };
  void add_chunks();
  void add_frames();

  const RestorePlan& plan_;
  std::vector<ChunkExtent> extents_;
  std::vector<LogBlock> blocks_;
  std::vector<Job> jobs_;
};

// Keeps what matches one of the fnmatch(3) patterns, all beneath a directory that matches, and the
// directories that lead there. No pattern: everything.
std::vector<PlannedPath> select_paths(std::vector<PlannedPath> paths,
                                      const std::vector<std::string>& only);

}  // namespace walfs
