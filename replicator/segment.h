// A segment: some consecutive points of the log as one object (FORMAT.md, "Segments").
//
// Layout: header, data frames (each a zstd frame of a few MiB of blocks' bytes), the index (what
// the points change, without the bytes), trailer. A reader that wants one file reads the trailer,
// the index, and only the frames that hold its blocks. This is the only place that names zstd, with
// compress.h.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"
#include "replicator/change.h"

namespace walfs {

inline constexpr size_t kSegmentHeaderSize = 32;
inline constexpr size_t kSegmentTrailerSize = 40;
// A frame is closed when it holds this much. The pages that a busy database writes again and again
// cost little where a frame has several of their versions: 4 MiB hold those of most seconds.
inline constexpr size_t kFrameTarget = size_t{4} << 20;
inline constexpr size_t kFrameRawMax = kFrameTarget + kBlockSizeMax;  // What a reader accepts.
inline constexpr uint64_t kIndexRawMax = uint64_t{1} << 30;

// Writes one segment to a file descriptor that it does not own. Not thread-safe.
class SegmentWriter {
 public:
  explicit SegmentWriter(int fd) : fd_(fd) {}
  // Adds a point; its blocks' bytes are compressed and written before this returns. After a failure
  // the segment is as it was before, and the call may be repeated.
  Status add(const Point& point);
  // The same for a point whose blocks' bytes are elsewhere: asked for in order, used before the
  // next are.
  using LoadBlock = std::function<Result<ByteView>(const SetContent&, const BlockChange&)>;
  Status add(const Point& point, const LoadBlock& load);
  // Only before the first point: not all points from `first` on will be in it.
  void thin_out_from(Position first) { thinned_from_ = first; }
  // Takes the last added point back, or finish(). Only directly after either.
  void undo();
  // Writes what is left. Afterwards the file is complete (not fsynced). After a failure it may be
  // repeated.
  Status finish();
  bool empty() const { return point_count_ == 0; }
  Position first() const { return first_; }
  Position last() const { return last_; }
  uint64_t bytes_written() const { return written_; }

 private:
  struct Frame {
    uint64_t stored_size;
    uint64_t raw_size;
    uint64_t hash;
  };
  // What undo() brings back.
  struct Mark {
    size_t raw_size = 0;
    Bytes raw;  // What is not in raw_ any more: a frame was closed since.
    size_t points_size = 0;
    size_t frame_count = 0;
    uint64_t point_count = 0;
    size_t partial_count = 0;
    uint64_t written = 0;
    Position first, last;
  };
  Mark mark() const;
  void restore(Mark mark);
  Status add_data(const Point& point, const LoadBlock& load);
  uint16_t flags() const;
  Status write_index();
  Status close_frame();
  Status write_all(ByteView data);

  int fd_;
  Mark before_last_;
  Bytes raw_;          // Of the open frame.
  ByteWriter points_;  // Encoded points.
  std::vector<Frame> frames_;
  uint64_t point_count_ = 0;
  std::vector<uint64_t> partial_;  // The numbers of the partial points.
  uint64_t written_ = 0;
  Position first_, last_;
  std::optional<Position> thinned_from_;
};

// A segment's index, decoded and checked.
struct SegmentIndex {
  struct Frame {
    uint64_t offset = 0;  // In the object.
    uint64_t stored_size = 0;
    uint64_t raw_size = 0;
    uint64_t hash = 0;
    uint64_t data_start =
        0;  // Of its first byte in the segment's data; data offsets of blocks count likewise.
  };
  Position first, last;
  bool thinned = false;  // Some positions have no point: what they changed is in the next one.
  std::vector<Frame> frames;
  std::vector<Point> points;

  // The frame that holds the byte at data_offset; blocks never cross frames.
  size_t frame_of(uint64_t data_offset) const;
};

// Reads `size` bytes of the object from `offset`.
using ReadObjectRange = std::function<Result<Bytes>(uint64_t offset, uint64_t size)>;

// Reads and checks the index of an object of object_size bytes. `name` is for messages.
Result<SegmentIndex> read_segment_index(const std::string& name, uint64_t object_size,
                                        const ReadObjectRange& read);
// Decompresses and checks one frame's stored bytes.
Result<Bytes> decode_frame(const std::string& name, const SegmentIndex::Frame& frame,
                           ByteView stored);

}  // namespace walfs
