#include "replicator/restore_jobs.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <utility>

namespace walfs {
namespace {

bool matches(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

void add_log_blocks(FileId id, const PlannedFile& file,
                    std::map<std::pair<uint32_t, uint32_t>, Job>& frames) {
  for (const auto& [block, place] : file.blocks) {
    if (place.hash == kZeroBlockHash) continue;
    Job& job = frames[{place.segment, place.frame}];
    job.segment = place.segment;
    job.object = place.frame;
    job.pieces.push_back({id, block, place.offset, place.size, place.hash});
  }
}

void add_chunk_blocks(FileId id, const PlannedFile& file, std::map<uint32_t, Job>& chunks) {
  for (const Extent& extent : file.extents) {
    for (uint64_t done = 0; done < extent.size; done += file.block_size) {
      const uint64_t offset = extent.file_offset + done;
      const uint64_t block = offset / file.block_size;
      if (offset >= file.size || block >= file.base_limit || file.blocks.contains(block)) continue;
      Job& job = chunks[extent.chunk];
      job.is_chunk = true;
      job.object = extent.chunk;
      const uint64_t size =
          std::min({uint64_t{file.block_size}, extent.size - done, file.size - offset});
      job.pieces.push_back({id, block, static_cast<uint32_t>(extent.chunk_offset + done),
                            static_cast<uint32_t>(size), std::nullopt});
    }
  }
}

}  // namespace

uint64_t Job::bytes() const {
  uint64_t sum = 0;
  for (const Piece& piece : pieces) sum += piece.size;
  return sum;
}

std::vector<Job> make_jobs(const RestorePlan& plan, const std::function<bool(FileId)>& wants) {
  std::map<std::pair<uint32_t, uint32_t>, Job> frames;
  std::map<uint32_t, Job> chunks;
  for (const auto& [id, file] : plan.files) {
    if (!wants(id) || file.block_size == 0) continue;
    add_log_blocks(id, file, frames);
    add_chunk_blocks(id, file, chunks);
  }
  std::vector<Job> jobs;
  jobs.reserve(chunks.size() + frames.size());
  for (auto& [key, job] : chunks) jobs.push_back(std::move(job));
  for (auto& [key, job] : frames) jobs.push_back(std::move(job));
  return jobs;
}

std::vector<PlannedPath> select_paths(std::vector<PlannedPath> paths,
                                      const std::vector<std::string>& only) {
  if (only.empty()) return paths;
  std::map<std::string, bool> wanted;
  for (const PlannedPath& path : paths) {
    if (path.path.empty()) continue;
    const size_t slash = path.path.rfind('/');
    const bool parent = slash != std::string::npos && wanted[path.path.substr(0, slash)];
    wanted[path.path] = parent || matches(only, path.path);
  }
  std::map<std::string, bool> kept;
  for (const auto& [path, is_wanted] : wanted) {
    if (!is_wanted) continue;
    for (size_t end = path.size(); end != std::string::npos; end = path.rfind('/', end - 1)) {
      kept[path.substr(0, end)] = true;
      if (end == 0) break;
    }
  }
  std::erase_if(paths, [&](const PlannedPath& path) {
    return !path.path.empty() && !kept.contains(path.path);
  });
  return paths;
}

}  // namespace walfs
