#include "replicator/snapshot_draft.h"

#include <algorithm>
#include <map>

namespace walfs {
namespace {

// What one slice of a file is made of.
struct Sources {
  std::vector<Extent> base;
  std::vector<std::pair<uint64_t, BlockPlace>> blocks;
};

// Up to where the old extents count.
uint64_t base_end(const PlannedFile& file) {
  const bool whole = file.base_limit > file.size / file.block_size;
  return whole ? file.size : file.base_limit * file.block_size;
}

void add_extent(const Extent& extent, uint64_t end, std::map<uint64_t, Sources>& slices) {
  const uint64_t size =
      extent.file_offset < end ? std::min(extent.size, end - extent.file_offset) : 0;
  for (uint64_t done = 0; done < size;) {
    const uint64_t at = extent.file_offset + done;
    const uint64_t part = std::min(size - done, kChunkSizeMax - at % kChunkSizeMax);
    slices[at / kChunkSizeMax].base.push_back({at, part, extent.chunk, extent.chunk_offset + done});
    done += part;
  }
}

// By the slice's number.
std::map<uint64_t, Sources> slices_of(const PlannedFile& file) {
  std::map<uint64_t, Sources> slices;
  if (file.block_size == 0) return slices;
  for (const Extent& extent : file.extents) add_extent(extent, base_end(file), slices);
  for (const auto& [block, place] : file.blocks) {
    if (block >= count_blocks(file.size, file.block_size)) continue;
    slices[block * file.block_size / kChunkSizeMax].blocks.emplace_back(block, place);
  }
  return slices;
}

class Drafter {
 public:
  explicit Drafter(const RestorePlan& plan) : plan_(plan), needed_(plan.chunks.size()) {}

  SnapshotDraft draft() {
    draft_.snapshot.range = {plan_.position, plan_.position};
    draft_.snapshot.time_ns = plan_.time_ns;
    for (const auto& [id, file] : plan_.files) count_needed(file);
    for (const auto& [id, file] : plan_.files) add_file(id, file);
    for (const auto& [parent, names] : plan_.entries)
      for (const auto& [name, child] : names)
        draft_.snapshot.entries.push_back({parent, name, child});
    return std::move(draft_);
  }

 private:
  void count_needed(const PlannedFile& file) {
    for (const auto& [number, sources] : slices_of(file)) {
      if (!sources.blocks.empty()) continue;
      for (const Extent& extent : sources.base) needed_[extent.chunk] += extent.size;
    }
  }

  void add_file(FileId id, const PlannedFile& file) {
    SnapshotFile added;
    added.id = id;
    added.attributes = file.attributes;
    added.block_size = file.block_size;
    added.size = file.size;
    added.database = file.database;
    added.checksum = file.checksum.value_or(0);
    for (auto& [number, sources] : slices_of(file)) {
      if (file.checksum && keeps(sources)) {
        for (const Extent& extent : sources.base) added.extents.push_back(kept(extent));
        continue;
      }
      Slice slice;
      slice.file = draft_.snapshot.files.size();
      slice.offset = number * kChunkSizeMax;
      slice.size = std::min(kChunkSizeMax, file.size - slice.offset);
      slice.base = std::move(sources.base);
      slice.blocks = std::move(sources.blocks);
      slice.adds_to_checksum = !file.checksum;
      draft_.slices.push_back(std::move(slice));
    }
    draft_.snapshot.files.push_back(std::move(added));
  }

  bool keeps(const Sources& sources) const {
    return sources.blocks.empty() &&
           std::all_of(sources.base.begin(), sources.base.end(), [&](const Extent& extent) {
             return needed_[extent.chunk] >= plan_.chunks[extent.chunk].size / 2;
           });
  }

  Extent kept(Extent extent) {
    const auto [found, is_new] =
        numbers_.emplace(extent.chunk, static_cast<uint32_t>(draft_.snapshot.chunks.size()));
    if (is_new) draft_.snapshot.chunks.push_back(plan_.chunks[extent.chunk]);
    extent.chunk = found->second;
    return extent;
  }

  const RestorePlan& plan_;
  std::vector<uint64_t> needed_;          // Bytes of each old chunk.
  std::map<uint32_t, uint32_t> numbers_;  // Old chunk to new.
  SnapshotDraft draft_;
};

}  // namespace

SnapshotDraft draft_snapshot(const RestorePlan& plan) {
  return Drafter(plan).draft();
}

}  // namespace walfs
