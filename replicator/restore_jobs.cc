#include "replicator/restore_jobs.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace walfs {
namespace {

bool matches(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

// Calls `use(piece)` for each block that an extent gives: those that are not in the log.
template <typename Use>
void for_each_block(FileId id, const PlannedFile& file, const Extent& extent, const Use& use) {
  for (uint64_t done = 0; done < extent.size; done += file.block_size) {
    const uint64_t offset = extent.file_offset + done;
    const uint64_t block = offset / file.block_size;
    if (offset >= file.size || block >= file.base_limit) return;
    if (file.blocks.contains(block)) continue;
    const uint64_t size =
        std::min({uint64_t{file.block_size}, extent.size - done, file.size - offset});
    use(Piece{id, block, static_cast<uint32_t>(extent.chunk_offset + done),
              static_cast<uint32_t>(size), std::nullopt});
  }
}

}  // namespace

JobList::JobList(const RestorePlan& plan, const std::function<bool(FileId)>& wants) : plan_(plan) {
  for (const auto& [id, file] : plan.files) {
    if (!wants(id) || file.block_size == 0) continue;
    for (size_t i = 0; i < file.extents.size(); ++i)
      extents_.push_back({file.extents[i].chunk, static_cast<uint32_t>(i), id});
    for (const auto& [block, place] : file.blocks) {
      if (place.hash != kZeroBlockHash) blocks_.push_back({place.segment, place.frame, id, block});
    }
  }
  add_chunks();
  add_frames();
}

void JobList::add_chunks() {
  std::sort(extents_.begin(), extents_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.chunk, a.id, a.extent) < std::tie(b.chunk, b.id, b.extent);
  });
  for (size_t i = 0; i < extents_.size();) {
    Job job{true, 0, extents_[i].chunk, 0, i, i};
    for (; i < extents_.size() && extents_[i].chunk == job.object; ++i) {
      const PlannedFile& file = plan_.files.at(extents_[i].id);
      for_each_block(extents_[i].id, file, file.extents[extents_[i].extent],
                     [&](const Piece& piece) { job.bytes += piece.size; });
    }
    job.end = i;
    if (job.bytes != 0) jobs_.push_back(job);
  }
}

void JobList::add_frames() {
  std::sort(blocks_.begin(), blocks_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.segment, a.frame, a.id, a.block) <
           std::tie(b.segment, b.frame, b.id, b.block);
  });
  for (size_t i = 0; i < blocks_.size();) {
    Job job{false, blocks_[i].segment, blocks_[i].frame, 0, i, i};
    for (;
         i < blocks_.size() && blocks_[i].segment == job.segment && blocks_[i].frame == job.object;
         ++i)
      job.bytes += plan_.files.at(blocks_[i].id).blocks.at(blocks_[i].block).size;
    job.end = i;
    jobs_.push_back(job);
  }
}

std::vector<Piece> JobList::pieces(const Job& job) const {
  std::vector<Piece> pieces;
  for (size_t i = job.first; i < job.end; ++i) {
    if (job.is_chunk) {
      const PlannedFile& file = plan_.files.at(extents_[i].id);
      for_each_block(extents_[i].id, file, file.extents[extents_[i].extent],
                     [&](const Piece& piece) { pieces.push_back(piece); });
    } else {
      const auto& [segment, frame, id, block] = blocks_[i];
      const BlockPlace& place = plan_.files.at(id).blocks.at(block);
      pieces.push_back({id, block, place.offset, place.size, place.hash});
    }
  }
  return pieces;
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
