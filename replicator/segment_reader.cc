#include "replicator/segment_reader.h"

namespace walfs {
namespace {

constexpr uint64_t kReadWhole = uint64_t{4} << 20;

}  // namespace

SegmentReader::SegmentReader(Store& store, const StoredObject& segment)
    : store_(store), segment_(segment), key_(segment_key(segment.range, segment.level)) {}

Result<SegmentIndex> SegmentReader::open() {
  if (segment_.size <= kReadWhole) {
    WALFS_ASSIGN(whole_, store_.get(key_, segment_.size));
  }
  return load_segment_index(segment_,
                            [this](uint64_t offset, uint64_t size) { return read(offset, size); });
}

Result<ByteView> SegmentReader::block(const SegmentIndex& index, const SetContent& content,
                                      const BlockChange& block) {
  return bytes(index, block.data_offset,
               stored_block_size(block.index, content.block_size, content.size));
}

Result<ByteView> SegmentReader::bytes(const SegmentIndex& index, uint64_t data_offset,
                                      uint64_t size) {
  const size_t number = index.frame_of(data_offset);
  const SegmentIndex::Frame& frame = index.frames[number];
  if (!frame_ || *frame_ != number) {
    WALFS_ASSIGN(const Bytes stored, read(frame.offset, frame.stored_size));
    WALFS_ASSIGN(content_, decode_frame(key_, frame, stored));
    frame_ = number;
  }
  return ByteView(content_).subspan(data_offset - frame.data_start, size);
}

Result<Bytes> SegmentReader::read(uint64_t offset, uint64_t size) {
  if (segment_.size > kReadWhole) return store_.get_range(key_, {offset, size});
  if (offset > whole_.size() || size > whole_.size() - offset)
    return damaged(key_, "it is too short");
  const auto begin = whole_.begin() + static_cast<std::ptrdiff_t>(offset);
  return Bytes(begin, begin + static_cast<std::ptrdiff_t>(size));
}

}  // namespace walfs
