#include "replicator/restore_plan.h"

#include <algorithm>
#include <set>
#include <utility>

namespace walfs {
namespace {

void drop_behind(PlannedFile& file, uint64_t block_count) {
  file.base_limit = std::min(file.base_limit, block_count);
  std::erase_if(file.blocks, [&](const auto& block) { return block.first >= block_count; });
}

}  // namespace

PlanBuilder::PlanBuilder(Snapshot snapshot, RestoreTarget target)
    : snapshot_(std::move(snapshot)), target_(target) {
  plan_.chunks = std::move(snapshot_.chunks);
  for (SnapshotFile& file : snapshot_.files) {
    plan_.files[file.id].extents = std::move(file.extents);
  }
  const Position last = snapshot_.range.last;
  const bool is_one_point = snapshot_.range.first == last;
  const bool is_too_late = (target_.position && last > *target_.position) ||
                           (target_.time_ns && snapshot_.time_ns > *target_.time_ns);
  if (!is_one_point || is_too_late) return;
  enter_snapshot();
  plan_.position = last;
  plan_.time_ns = snapshot_.time_ns;
  complete_ = target_.position && last == *target_.position;
}

// From the snapshot's end on its names, attributes, sizes and checksums count; until then the log
// only told which blocks have changed while the snapshot was made.
void PlanBuilder::enter_snapshot() {
  usable_ = true;
  std::map<FileId, PlannedFile> files;
  for (SnapshotFile& from : snapshot_.files) {
    PlannedFile file = std::move(plan_.files[from.id]);
    file.attributes = std::move(from.attributes);
    file.block_size = from.block_size;
    file.size = from.size;
    file.database = from.database;
    file.checksum = from.checksum;
    drop_behind(file, count_blocks(file.size, file.block_size));
    files.emplace(from.id, std::move(file));
  }
  plan_.files = std::move(files);
  for (SetEntry& entry : snapshot_.entries) plan_.entries[entry.parent][entry.name] = entry.child;
}

void PlanBuilder::apply_blocks(const SetContent& change, const SegmentIndex& index,
                               uint32_t segment) {
  PlannedFile& file = plan_.files[change.id];
  if (change.reset) {
    file.base_limit = 0;
    file.blocks.clear();
  }
  const uint64_t count = count_blocks(change.size, change.block_size);
  if (change.size < file.size || !usable_) drop_behind(file, count);
  for (const BlockChange& block : change.blocks) {
    BlockPlace place;
    place.hash = block.hash;
    if (block.hash != kZeroBlockHash) {
      const size_t frame = index.frame_of(block.data_offset);
      place.segment = segment;
      place.frame = static_cast<uint32_t>(frame);
      place.offset = static_cast<uint32_t>(block.data_offset - index.frames[frame].data_start);
      place.size =
          static_cast<uint32_t>(stored_block_size(block.index, change.block_size, change.size));
    }
    file.blocks[block.index] = place;
  }
  file.block_size = change.block_size;
  file.size = change.size;
  file.database = change.database;
  file.checksum = change.checksum;
}

void PlanBuilder::apply(const Change& change, const SegmentIndex& index, uint32_t segment) {
  if (const auto* content = std::get_if<SetContent>(&change)) {
    apply_blocks(*content, index, segment);
  } else if (!usable_) {
    return;
  } else if (const auto* file = std::get_if<SetFile>(&change)) {
    plan_.files[file->id].attributes = file->attributes;
  } else if (const auto* drop = std::get_if<DropFile>(&change)) {
    plan_.files.erase(drop->id);
    plan_.entries.erase(drop->id);
  } else {
    const auto& entry = std::get<SetEntry>(change);
    if (entry.child == kNoFile) {
      plan_.entries[entry.parent].erase(entry.name);
    } else {
      plan_.entries[entry.parent][entry.name] = entry.child;
    }
  }
}

void PlanBuilder::apply(const Point& point, const SegmentIndex& index, uint32_t segment) {
  if (!usable_ && point.position > snapshot_.range.last) enter_snapshot();
  for (const Change& change : point.changes) apply(change, index, segment);
  if (point.position == snapshot_.range.last) enter_snapshot();
}

void PlanBuilder::add(const SegmentIndex& index) {
  std::shared_ptr<SegmentIndex> frames;  // For partial points, when there are any.
  for (const Point& point : index.points) {
    if (complete_) return;
    if (point.position <= snapshot_.range.first) continue;
    const bool too_late = (target_.position && point.position > *target_.position) ||
                          (target_.time_ns && point.time_ns > *target_.time_ns);
    if (too_late) {
      complete_ = true;
      return;
    }
    complete_ = target_.position && point.position == *target_.position;
    if (point.partial) {
      if (frames == nullptr) {
        frames = std::make_shared<SegmentIndex>();
        frames->frames = index.frames;
      }
      held_.push_back({point, frames, segment_});
      continue;
    }
    for (const Held& held : std::exchange(held_, {})) apply(held.point, *held.index, held.segment);
    apply(point, index, segment_);
    plan_.position = point.position;
    plan_.time_ns = point.time_ns;
  }
  ++segment_;
}

Result<RestorePlan> PlanBuilder::finish() {
  if (!usable_) {
    return Error{Errc::kNothingThere, "the replica holds nothing that old: its first point is " +
                                          snapshot_.range.last.to_string()};
  }
  if (target_.position && !held_.empty() && held_.back().point.position == *target_.position) {
    return Error{Errc::kNothingThere, "position " + target_.position->to_string() +
                                          " is a step between two points and cannot be restored; "
                                          "the last point before it is " +
                                          plan_.position.to_string()};
  }
  if (target_.position && plan_.position != *target_.position) {
    return Error{Errc::kNothingThere, "the replica has no position " +
                                          target_.position->to_string() + "; its newest is " +
                                          plan_.position.to_string()};
  }
  for (const auto& [id, file] : plan_.files) {
    if (file.block_size == 0 && file.size != 0) {
      return Error{Errc::kDamaged, "the replica is damaged: a file has a size but no blocks"};
    }
  }
  return std::move(plan_);
}

Result<std::vector<PlannedPath>> plan_paths(const RestorePlan& plan) {
  const Error damaged{Errc::kDamaged,
                      "the replica is damaged: its directories contradict each other"};
  std::vector<PlannedPath> paths;
  std::set<FileId> directories;
  const auto root = plan.files.find(kRootId);
  if (root == plan.files.end() || root->second.attributes.type != FileType::kDirectory)
    return damaged;
  paths.push_back({"", kRootId});
  directories.insert(kRootId);
  for (size_t i = 0; i < paths.size(); ++i) {  // Breadth first; `paths` grows meanwhile.
    const auto entries = plan.entries.find(paths[i].id);
    const auto parent = plan.files.find(paths[i].id);
    if (entries == plan.entries.end() || parent->second.attributes.type != FileType::kDirectory)
      continue;
    const std::string prefix = paths[i].path.empty() ? "" : paths[i].path + "/";
    for (const auto& [name, child] : entries->second) {
      const auto file = plan.files.find(child);
      if (file == plan.files.end()) return damaged;
      const bool is_directory = file->second.attributes.type == FileType::kDirectory;
      if (is_directory && !directories.insert(child).second) return damaged;
      paths.push_back({prefix + name, child});
    }
  }
  return paths;
}

}  // namespace walfs
