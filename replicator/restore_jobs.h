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

// One frame of a segment, or one chunk, and the blocks that it gives.
struct Job {
  bool is_chunk = false;
  uint32_t segment = 0;  // Index into the route's segments.
  uint32_t object = 0;   // The frame of the segment, or the chunk of the plan.
  std::vector<Piece> pieces;

  uint64_t bytes() const;
};

// The jobs for the files that are wanted; chunks first.
std::vector<Job> make_jobs(const RestorePlan& plan, const std::function<bool(FileId)>& wants);

// Keeps what matches one of the fnmatch(3) patterns, all beneath a directory that matches, and the
// directories that lead there. No pattern: everything.
std::vector<PlannedPath> select_paths(std::vector<PlannedPath> paths,
                                      const std::vector<std::string>& only);

}  // namespace walfs
