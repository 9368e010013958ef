#include "replicator/thin_out.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "replicator/base/file_io.h"
#include "replicator/join.h"
#include "replicator/point_merger.h"
#include "replicator/segment_reader.h"

namespace walfs {
namespace {

const std::string kScratchName = "the scratch file of a segment";

class ThinnedSegment {
 public:
  ThinnedSegment(Store& store, const std::vector<StoredObject>& segments,
                 const std::atomic<bool>& stopping)
      : store_(store), segments_(segments), stopping_(stopping) {}

  // Which points are left. False if the last one of all is partial or too new.
  Result<bool> merge(const Thinning& thinning);
  // Through the scratch file.
  Status write(int scratch, SegmentWriter& writer);

 private:
  // From a segment's data to a place in the scratch file.
  struct Copy {
    BlockSource from;
    uint64_t to = 0;
  };
  Status check_stopping() const {
    if (!stopping_) return {};
    return Error{Errc::kCancelled, "compaction was stopped"};
  }
  // Brings the point's blocks into the scratch file, in the order in which the point has them.
  Status gather(const MergedPoint& merged, int scratch);
  static std::vector<Copy> place_blocks(const MergedPoint& merged);
  Status copy(int scratch, uint32_t segment, const Copy* begin, const Copy* end);
  Status write(const Point& point, int scratch, SegmentWriter& writer) const;

  Store& store_;
  const std::vector<StoredObject>& segments_;
  const std::atomic<bool>& stopping_;
  std::vector<MergedPoint> points_;
};

Result<bool> ThinnedSegment::merge(const Thinning& thinning) {
  PointMerger merger(thinning.bytes_max);
  for (uint32_t number = 0; number < segments_.size(); ++number) {
    WALFS_TRY(check_stopping());
    SegmentReader reader(store_, segments_[number]);
    WALFS_ASSIGN(const SegmentIndex index, reader.open());
    for (const Point& point : index.points) {
      const bool next_hour = !merger.empty() && merger.time_ns() / thinning.hour_ns !=
                                                    point.time_ns / thinning.hour_ns;
      const bool ends = next_hour && !merger.partial();
      if (!ends && merger.add(point, number)) continue;
      if (merger.partial()) return false;
      points_.push_back(merger.take());
      merger.add(point, number);
    }
  }
  if (merger.empty() || merger.partial()) return false;
  points_.push_back(merger.take());
  return points_.back().point.time_ns <= thinning.newest_ns;
}

// Calls visit(content, block) for each block of the point that is not zeros.
template <typename Visit>
void for_each_block(const Point& point, const Visit& visit) {
  for (const Change& change : point.changes) {
    const auto* content = std::get_if<SetContent>(&change);
    if (content == nullptr) continue;
    for (const BlockChange& block : content->blocks)
      if (block.hash != kZeroBlockHash) visit(*content, block);
  }
}

// Where the blocks go, in the order in which the segments have them.
std::vector<ThinnedSegment::Copy> ThinnedSegment::place_blocks(const MergedPoint& merged) {
  std::vector<Copy> copies;
  uint64_t place = 0;
  auto source = merged.sources.begin();
  for_each_block(merged.point, [&](const SetContent& content, const BlockChange& block) {
    const uint64_t size = stored_block_size(block.index, content.block_size, content.size);
    Copy copy{*source++, place};
    copy.from.size = static_cast<uint32_t>(std::min<uint64_t>(copy.from.size, size));
    copies.push_back(copy);
    place += size;
  });
  std::sort(copies.begin(), copies.end(), [](const Copy& a, const Copy& b) {
    return std::tie(a.from.segment, a.from.data_offset) <
           std::tie(b.from.segment, b.from.data_offset);
  });
  return copies;
}

Status ThinnedSegment::gather(const MergedPoint& merged, int scratch) {
  if (::ftruncate(scratch, 0) != 0) return error_from_errno("cannot empty " + kScratchName, errno);
  const std::vector<Copy> copies = place_blocks(merged);
  for (size_t begin = 0; begin < copies.size();) {
    const uint32_t segment = copies[begin].from.segment;
    size_t end = begin;
    while (end < copies.size() && copies[end].from.segment == segment) ++end;
    WALFS_TRY(copy(scratch, segment, copies.data() + begin, copies.data() + end));
    begin = end;
  }
  return {};
}

Status ThinnedSegment::copy(int scratch, uint32_t segment, const Copy* begin, const Copy* end) {
  SegmentReader reader(store_, segments_[segment]);
  WALFS_ASSIGN(const SegmentIndex index, reader.open());
  for (const Copy* one = begin; one != end; ++one) {
    WALFS_TRY(check_stopping());
    WALFS_ASSIGN(const ByteView bytes, reader.bytes(index, one->from.data_offset, one->from.size));
    WALFS_TRY(write_at(scratch, bytes, one->to, kScratchName));
  }
  return {};
}

Status ThinnedSegment::write(int scratch, SegmentWriter& writer) {
  writer.thin_out_from(segments_.front().range.first);
  for (const MergedPoint& merged : points_) {
    WALFS_TRY(gather(merged, scratch));
    WALFS_TRY(check_stopping());
    WALFS_TRY(write(merged.point, scratch, writer));
  }
  return {};
}

// What was damaged in the store must not become right by being written anew.
Status ThinnedSegment::write(const Point& point, int scratch, SegmentWriter& writer) const {
  uint64_t place = 0;
  Bytes bytes;
  return writer.add(
      point, [&](const SetContent& content, const BlockChange& block) -> Result<ByteView> {
        const uint64_t size = stored_block_size(block.index, content.block_size, content.size);
        WALFS_ASSIGN(bytes, read_at(scratch, place, size, kScratchName));
        bytes.resize(size);  // The scratch file ends where zeros begin.
        place += size;
        if (block_hash(block.index, bytes, content.block_size) == block.hash)
          return ByteView(bytes);
        return damaged(segment_key(segments_.front().range, segments_.front().level) +
                           ", or one of those that follow it,",
                       "a block fails its checksum");
      });
}

}  // namespace

Result<std::optional<StoredObject>> thin_out(Store& store,
                                             const std::vector<StoredObject>& segments,
                                             const Thinning& thinning, unsigned level,
                                             const std::string& scratch,
                                             const std::atomic<bool>& stopping) {
  ThinnedSegment thinned(store, segments, stopping);
  WALFS_ASSIGN(const bool possible, thinned.merge(thinning));
  if (!possible) return std::optional<StoredObject>();
  WALFS_ASSIGN(const FileDescriptor blocks, open_unnamed(scratch, "to thin out segments in"));
  WALFS_ASSIGN(const FileDescriptor file, open_unnamed(scratch, "to thin out segments in"));
  SegmentWriter writer(file.get());
  WALFS_TRY(thinned.write(blocks.get(), writer));
  WALFS_ASSIGN(const StoredObject made, put_segment(store, writer, file.get(), level));
  return std::optional<StoredObject>(made);
}

}  // namespace walfs
