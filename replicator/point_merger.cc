#include "replicator/point_merger.h"

#include <algorithm>

namespace walfs {
namespace {

uint64_t count_of(const SetContent& content) {
  return (content.size + content.block_size - 1) / content.block_size;
}

}  // namespace

bool PointMerger::add(const Point& point, uint32_t segment) {
  if (last_ && bytes_with(point) > bytes_max_) return false;
  for (const Change& change : point.changes) {
    if (const auto* content = std::get_if<SetContent>(&change)) {
      apply(*content, segment);
    } else if (const auto* file = std::get_if<SetFile>(&change)) {
      files_[file->id] = file->attributes;
    } else if (const auto* gone = std::get_if<DropFile>(&change)) {
      drop(gone->id);
    } else {
      const auto& entry = std::get<SetEntry>(change);
      entries_[{entry.parent, entry.name}] = entry.child;
    }
  }
  last_ = Point{point.position, point.time_ns, point.partial, {}};
  return true;
}

// Of a file that grows, what it does not get here may have to be zeros.
uint64_t PointMerger::bytes_with(const Point& point) const {
  uint64_t bytes = 0;
  for (const auto& [id, content] : contents_)
    bytes += content.blocks.size() * content.change.block_size;
  for (const Change& change : point.changes) {
    const auto* content = std::get_if<SetContent>(&change);
    if (content == nullptr) continue;
    uint64_t blocks = content->blocks.size();
    const auto before = contents_.find(content->id);
    const uint64_t count = count_of(*content);
    if (before != contents_.end() && !content->reset && !before->second.change.reset)
      blocks += count - std::min(count, before->second.kept);
    bytes += blocks * content->block_size;
  }
  return bytes;
}

void PointMerger::apply(const SetContent& change, uint32_t segment) {
  const auto [found, is_first] = contents_.try_emplace(change.id);
  Content& content = found->second;
  const uint64_t count = count_of(change);
  const bool reset = change.reset || (!is_first && content.change.reset);
  if (change.reset) content.blocks.clear();
  content.blocks.erase(content.blocks.lower_bound(count), content.blocks.end());
  content.kept = is_first ? count : std::min(content.kept, count);
  content.change = {change.id,       change.block_size, change.size, reset,
                    change.database, change.checksum,   {}};
  for (const BlockChange& block : change.blocks) {
    const auto size =
        static_cast<uint32_t>(stored_block_size(block.index, change.block_size, change.size));
    content.blocks[block.index] = {block.hash, {segment, block.data_offset, size}};
  }
}

void PointMerger::drop(FileId id) {
  files_.erase(id);
  contents_.erase(id);
  entries_.erase(entries_.lower_bound({id, ""}), entries_.lower_bound({id + 1, ""}));
  dropped_.insert(id);
}

// A reset says that all else is zeros.
void PointMerger::take_content(Content&& content, MergedPoint& merged) const {
  SetContent& change = content.change;
  const uint64_t count = count_of(change);
  if (!change.reset)
    for (uint64_t index = content.kept; index < count; ++index) content.blocks.try_emplace(index);
  for (const auto& [index, block] : content.blocks) {
    change.blocks.push_back({index, block.hash, {}, 0});
    if (block.hash != kZeroBlockHash) merged.sources.push_back(block.source);
  }
  merged.point.changes.emplace_back(std::move(change));
}

// What loses a name comes before what gets one, and names before contents, as in any point.
MergedPoint PointMerger::take() {
  MergedPoint merged;
  merged.point = *std::exchange(last_, std::nullopt);
  auto& changes = merged.point.changes;
  for (auto& [id, attributes] : files_) changes.emplace_back(SetFile{id, std::move(attributes)});
  for (const bool removed : {true, false})
    for (const auto& [name, child] : entries_)
      if ((child == kNoFile) == removed)
        changes.emplace_back(SetEntry{name.first, name.second, child});
  for (const FileId id : dropped_) changes.emplace_back(DropFile{id});
  for (auto& [id, content] : contents_) take_content(std::move(content), merged);
  files_.clear();
  entries_.clear();
  dropped_.clear();
  contents_.clear();
  return merged;
}

}  // namespace walfs
