#include "replicator/join.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "replicator/base/file_descriptor.h"
#include "replicator/segment.h"

namespace walfs {
namespace {

// Smaller segments, which is most of them, are read with a single request.
constexpr uint64_t kReadWhole = uint64_t{4} << 20;

// A segment in the store as it is read from its beginning to its end.
class SegmentReader {
 public:
  SegmentReader(Store& store, const StoredObject& segment)
      : store_(store), segment_(segment), key_(segment_key(segment.range, segment.level)) {}

  Result<SegmentIndex> open() {
    if (segment_.size <= kReadWhole) {
      WALFS_ASSIGN(whole_, store_.get(key_, segment_.size));
    }
    return load_segment_index(
        segment_, [this](uint64_t offset, uint64_t size) { return read(offset, size); });
  }
  // Valid until the next call.
  Result<ByteView> block(const SegmentIndex& index, const SetContent& content,
                         const BlockChange& block) {
    const size_t number = index.frame_of(block.data_offset);
    const SegmentIndex::Frame& frame = index.frames[number];
    if (!frame_ || *frame_ != number) {
      WALFS_ASSIGN(const Bytes stored, read(frame.offset, frame.stored_size));
      WALFS_ASSIGN(content_, decode_frame(key_, frame, stored));
      frame_ = number;
    }
    const uint64_t size = stored_block_size(block.index, content.block_size, content.size);
    return ByteView(content_).subspan(block.data_offset - frame.data_start, size);
  }

 private:
  Result<Bytes> read(uint64_t offset, uint64_t size) {
    if (segment_.size > kReadWhole) return store_.get_range(key_, {offset, size});
    if (offset > whole_.size() || size > whole_.size() - offset)
      return Error{Errc::kDamaged, key_ + " is damaged: it is too short"};
    const auto begin = whole_.begin() + static_cast<std::ptrdiff_t>(offset);
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(size));
  }

  Store& store_;
  const StoredObject& segment_;
  const std::string key_;
  Bytes whole_;
  std::optional<size_t> frame_;  // That content_ holds.
  Bytes content_;
};

Status copy_points(Store& store, const StoredObject& segment, SegmentWriter& writer,
                   const std::atomic<bool>& stopping) {
  SegmentReader reader(store, segment);
  WALFS_ASSIGN(const SegmentIndex index, reader.open());
  for (const Point& point : index.points) {
    if (stopping) return Error{Errc::kCancelled, "compaction was stopped"};
    WALFS_TRY(writer.add(point, [&](const SetContent& content, const BlockChange& block) {
      return reader.block(index, content, block);
    }));
  }
  return {};
}

}  // namespace

Result<StoredObject> join_segments(Store& store, const std::vector<StoredObject>& segments,
                                   unsigned level, const std::string& scratch,
                                   const std::atomic<bool>& stopping) {
  const FileDescriptor file(::open(scratch.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid()) return error_from_errno("cannot create a file in " + scratch, errno);
  SegmentWriter writer(file.get());
  for (const StoredObject& segment : segments)
    WALFS_TRY(copy_points(store, segment, writer, stopping));
  WALFS_TRY(writer.finish());
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size < 0) return error_from_errno("cannot read a file in " + scratch, errno);
  StoredObject joined{{segments.front().range.first, segments.back().range.last},
                      static_cast<uint64_t>(size),
                      level};
  const std::string key = segment_key(joined.range, level);
  const Status put =
      store.put(key, ObjectBody::of_file(file.get(), 0, joined.size), PutMode::kIfAbsent);
  if (put.ok()) return joined;
  if (put.error().code != Errc::kConflict) return put.error();
  WALFS_ASSIGN(const ObjectInfo there, store.head(key));
  joined.size = there.size;
  WALFS_TRY(load_segment_index(store, joined));
  return joined;
}

}  // namespace walfs
