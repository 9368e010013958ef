#include "replicator/segment.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/change_codec.h"
#include "replicator/compress.h"

namespace walfs {
namespace {

constexpr std::string_view kSegmentMagic = "walfsseg";
constexpr std::string_view kEndMagic = "walfsend";
constexpr uint16_t kSegmentVersion = 1;
constexpr int kSegmentCompression = 2;  // As fast as 1 with pages, and much better.
// Flags.
constexpr uint16_t kHasPartialPoints = 1;
constexpr uint16_t kIsThinned = 2;

Bytes encode_header(Position first, Position last, uint16_t flags) {
  ByteWriter out;
  out.bytes(as_bytes(kSegmentMagic));
  out.u16(kSegmentVersion);
  out.u16(flags);
  out.u32(0);
  out.u64(first.value);
  out.u64(last.value);
  return out.take();
}

struct Trailer {
  uint64_t index_offset = 0;
  uint32_t index_size = 0;
  uint32_t index_raw_size = 0;
  uint64_t index_hash = 0;
};

Result<Trailer> decode_trailer(const std::string& name, ByteView header, ByteView trailer,
                               uint64_t object_size) {
  ByteReader in(trailer);
  Trailer result;
  result.index_offset = in.u64();
  result.index_size = in.u32();
  result.index_raw_size = in.u32();
  result.index_hash = in.u64();
  const uint64_t self_hash = in.u64();
  if (as_text(in.bytes(8)) != kEndMagic) return damaged(name, "it does not end as a segment does");
  Bytes covered(header.begin(), header.end());
  covered.insert(covered.end(), trailer.begin(), trailer.begin() + 24);
  if (stored_hash(covered) != self_hash) return damaged(name, "its trailer fails its checksum");
  // Without sums, which could wrap round.
  const uint64_t index_end = object_size - kSegmentTrailerSize;
  if (result.index_raw_size > kIndexRawMax || result.index_offset < kSegmentHeaderSize ||
      result.index_offset > index_end || result.index_size != index_end - result.index_offset) {
    return damaged(name, "its index lies outside of it");
  }
  return result;
}

// Which of the points are partial: at least one is, or the segment would not have the flag.
void decode_partial(ByteReader& in, SegmentIndex& index) {
  const uint64_t count = in.varint();
  if (count == 0 || count > index.points.size()) in.fail();
  uint64_t next = 0;
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const uint64_t gap = in.varint();
    if (gap >= index.points.size() - next) return in.fail();
    index.points[next + gap].partial = true;
    next += gap + 1;
  }
}

Status decode_index(const std::string& name, ByteView raw, uint64_t index_offset, uint16_t flags,
                    SegmentIndex& index) {
  ByteReader in(raw);
  const uint64_t frame_count = in.varint();
  if (frame_count > in.remaining()) in.fail();
  uint64_t offset = kSegmentHeaderSize;
  uint64_t data_size = 0;
  for (uint64_t i = 0; i < frame_count && in.ok(); ++i) {
    SegmentIndex::Frame frame;
    frame.offset = offset;
    frame.stored_size = in.varint();
    frame.raw_size = in.varint();
    frame.hash = in.u64();
    frame.data_start = data_size;
    if (frame.stored_size > index_offset - offset || frame.raw_size > kFrameRawMax ||
        frame.raw_size == 0) {
      in.fail();
      break;
    }
    offset += frame.stored_size;
    data_size += frame.raw_size;
    index.frames.push_back(frame);
  }
  const uint64_t point_count = in.varint();
  uint64_t data_offset = 0;
  Position next = index.first;
  index.thinned = (flags & kIsThinned) != 0;
  for (uint64_t i = 0; i < point_count && in.ok(); ++i) {
    index.points.push_back(decode_point(in, data_offset));
    const Position position = index.points.back().position;
    if (index.thinned ? position < next : position != next) in.fail();
    next = position.next();
  }
  if ((flags & kHasPartialPoints) != 0) decode_partial(in, index);
  if (!in.ok() || !in.at_end() || data_offset != data_size || index.points.empty() ||
      index.points.back().position != index.last) {
    return damaged(name, "its index contradicts itself");
  }
  return {};
}

// No block may cross a frame: its bytes are looked up in one.
Status check_blocks(const std::string& name, const SegmentIndex& index) {
  for (const Point& point : index.points) {
    for (const Change& change : point.changes) {
      const auto* content = std::get_if<SetContent>(&change);
      if (content == nullptr) continue;
      for (const BlockChange& block : content->blocks) {
        if (block.hash == kZeroBlockHash) continue;
        const auto& frame = index.frames[index.frame_of(block.data_offset)];
        const uint64_t size = stored_block_size(block.index, content->block_size, content->size);
        if (block.data_offset + size > frame.data_start + frame.raw_size) {
          return damaged(name, "a block crosses its frames");
        }
      }
    }
  }
  return {};
}

}  // namespace

Status SegmentWriter::write_all(ByteView data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd_, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return error_from_errno("cannot write to the spool", errno);
    data = data.subspan(static_cast<size_t>(n));
    written_ += static_cast<uint64_t>(n);
  }
  return {};
}

Status SegmentWriter::close_frame() {
  if (raw_.empty()) return {};
  const Bytes stored = compress(raw_, kSegmentCompression);
  WALFS_TRY(write_all(stored));
  const Frame frame{stored.size(), raw_.size(), stored_hash(stored)};
  if (frames_.size() == before_last_.frame_count) {
    raw_.resize(before_last_.raw_size);
    before_last_.raw = std::move(raw_);
  }
  frames_.push_back(frame);
  raw_.clear();
  return {};
}

SegmentWriter::Mark SegmentWriter::mark() const {
  return {raw_.size(),     {},       points_.size(), frames_.size(), point_count_,
          partial_.size(), written_, first_,         last_};
}

void SegmentWriter::restore(Mark mark) {
  if (frames_.size() > mark.frame_count) raw_ = std::move(mark.raw);
  raw_.resize(mark.raw_size);
  points_.truncate(mark.points_size);
  frames_.resize(mark.frame_count);
  point_count_ = mark.point_count;
  partial_.resize(mark.partial_count);
  written_ = mark.written;
  first_ = mark.first;
  last_ = mark.last;
  // A failure here shows up again in the next write, which then is at the wrong place and fails its
  // checksum.
  if (::ftruncate(fd_, static_cast<off_t>(written_)) != 0) return;
  ::lseek(fd_, static_cast<off_t>(written_), SEEK_SET);
}

void SegmentWriter::undo() {
  restore(std::move(before_last_));
}

Status SegmentWriter::add(const Point& point) {
  return add(point, [](const SetContent&, const BlockChange& block) -> Result<ByteView> {
    return block.data;
  });
}

Status SegmentWriter::add(const Point& point, const LoadBlock& load) {
  before_last_ = mark();
  Status added = add_data(point, load);
  if (!added.ok()) undo();
  return added;
}

uint16_t SegmentWriter::flags() const {
  return static_cast<uint16_t>((partial_.empty() ? 0 : kHasPartialPoints) |
                               (thinned_from_ ? kIsThinned : 0));
}

Status SegmentWriter::add_data(const Point& point, const LoadBlock& load) {
  if (empty()) {
    first_ = thinned_from_.value_or(point.position);
    // The header names the last position too, and has flags: it is written again by finish().
    WALFS_TRY(write_all(encode_header(first_, first_, 0)));
  }
  for (const Change& change : point.changes) {
    const auto* content = std::get_if<SetContent>(&change);
    if (content == nullptr) continue;
    for (const BlockChange& block : content->blocks) {
      if (block.hash == kZeroBlockHash) continue;
      WALFS_ASSIGN(const ByteView data, load(*content, block));
      raw_.insert(raw_.end(), data.begin(), data.end());
      if (raw_.size() >= kFrameTarget) WALFS_TRY(close_frame());
    }
  }
  encode_point(point, points_);
  last_ = point.position;
  if (point.partial) partial_.push_back(point_count_);
  ++point_count_;
  return {};
}

Status SegmentWriter::finish() {
  before_last_ = mark();
  Status written = write_index();
  if (!written.ok()) undo();
  return written;
}

Status SegmentWriter::write_index() {
  WALFS_TRY(close_frame());
  ByteWriter index;
  index.varint(frames_.size());
  for (const Frame& frame : frames_) {
    index.varint(frame.stored_size);
    index.varint(frame.raw_size);
    index.u64(frame.hash);
  }
  index.varint(point_count_);
  index.bytes(points_.data());
  if (!partial_.empty()) index.varint(partial_.size());
  uint64_t next = 0;
  for (const uint64_t number : partial_) {
    index.varint(number - next);
    next = number + 1;
  }
  const uint64_t raw_size = index.size();
  if (raw_size > kIndexRawMax)
    return Error{Errc::kIo, "a point has too many changes for one segment"};
  const Bytes stored = compress(index.data(), kSegmentCompression);
  const Bytes header = encode_header(first_, last_, flags());
  ByteWriter trailer;
  trailer.u64(written_);
  trailer.u32(static_cast<uint32_t>(stored.size()));
  trailer.u32(static_cast<uint32_t>(raw_size));
  trailer.u64(stored_hash(stored));
  Bytes covered = header;
  covered.insert(covered.end(), trailer.data().begin(), trailer.data().end());
  trailer.u64(stored_hash(covered));
  trailer.bytes(as_bytes(kEndMagic));
  WALFS_TRY(write_all(stored));
  WALFS_TRY(write_all(trailer.data()));
  if (::pwrite(fd_, header.data(), header.size(), 0) != static_cast<ssize_t>(header.size())) {
    return error_from_errno("cannot write to the spool", errno);
  }
  return {};
}

size_t SegmentIndex::frame_of(uint64_t data_offset) const {
  const auto after = std::upper_bound(
      frames.begin(), frames.end(), data_offset,
      [](uint64_t offset, const Frame& frame) { return offset < frame.data_start; });
  return static_cast<size_t>(after - frames.begin()) - 1;
}

Result<SegmentIndex> read_segment_index(const std::string& name, uint64_t object_size,
                                        const ReadObjectRange& read) {
  if (object_size < kSegmentHeaderSize + kSegmentTrailerSize)
    return damaged(name, "it is too short");
  WALFS_ASSIGN(const Bytes header, read(0, kSegmentHeaderSize));
  WALFS_ASSIGN(const Bytes trailer_bytes,
               read(object_size - kSegmentTrailerSize, kSegmentTrailerSize));
  ByteReader in(header);
  if (as_text(in.bytes(8)) != kSegmentMagic)
    return damaged(name, "it does not begin as a segment does");
  const uint16_t version = in.u16();
  const uint16_t flags = in.u16();
  if (version != kSegmentVersion || (flags & ~(kHasPartialPoints | kIsThinned)) != 0) {
    return Error{Errc::kUnsupported, name + " was written by a newer walfs (format " +
                                         std::to_string(version) + "); use that version"};
  }
  in.u32();
  SegmentIndex index;
  index.first = Position{in.u64()};
  index.last = Position{in.u64()};
  WALFS_ASSIGN(const Trailer trailer, decode_trailer(name, header, trailer_bytes, object_size));
  WALFS_ASSIGN(const Bytes stored, read(trailer.index_offset, trailer.index_size));
  if (stored_hash(stored) != trailer.index_hash)
    return damaged(name, "its index fails its checksum");
  WALFS_ASSIGN(const Bytes raw, decompress(name, stored, trailer.index_raw_size));
  WALFS_TRY(decode_index(name, raw, trailer.index_offset, flags, index));
  WALFS_TRY(check_blocks(name, index));
  return index;
}

Result<Bytes> decode_frame(const std::string& name, const SegmentIndex::Frame& frame,
                           ByteView stored) {
  if (stored.size() != frame.stored_size || stored_hash(stored) != frame.hash) {
    return damaged(name,
                   "the data at byte " + std::to_string(frame.offset) + " fails its checksum");
  }
  return decompress(name, stored, frame.raw_size);
}

}  // namespace walfs
