#include "replicator/segment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <rapidcheck.h>
#include <sys/resource.h>

#include <csignal>

#include "replicator/compress.h"
#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using test::make_segment;
using test::read_from_bytes;

// Content that does not compress, different for each seed.
Bytes noise(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 9);
  return bytes;
}

// A point that writes `data` as blocks of a file.
Point block_point(uint64_t sequence, ByteView data, uint32_t block_size) {
  SetContent change;
  change.id = 2;
  change.block_size = block_size;
  change.size = data.size();
  for (size_t at = 0; at < data.size(); at += block_size) {
    const ByteView block = data.subspan(at, std::min<size_t>(block_size, data.size() - at));
    const uint64_t index = at / block_size;
    change.blocks.push_back({index, block_hash(index, block, block_size), block, 0});
  }
  Point point;
  point.position = Position::of(1, sequence);
  point.time_ns = static_cast<int64_t>(sequence);
  point.changes = {std::move(change)};
  return point;
}

Result<SegmentIndex> read_index(ByteView object) {
  return read_segment_index("seg", object.size(), read_from_bytes(object));
}

// Everything that a segment holds, every checksum proved; or the first error.
Result<std::vector<Bytes>> read_all(ByteView object) {
  WALFS_ASSIGN(const SegmentIndex index, read_index(object));
  std::vector<Bytes> frames;
  for (const auto& frame : index.frames) {
    WALFS_ASSIGN(const Bytes stored, read_from_bytes(object)(frame.offset, frame.stored_size));
    WALFS_ASSIGN(Bytes raw, decode_frame("seg", frame, stored));
    frames.push_back(std::move(raw));
  }
  return frames;
}

Bytes block_data(const SegmentIndex& index, const std::vector<Bytes>& frames,
                 const SetContent& change, const BlockChange& block) {
  const size_t frame = index.frame_of(block.data_offset);
  const auto begin =
      frames[frame].begin() +
      static_cast<std::ptrdiff_t>(block.data_offset - index.frames[frame].data_start);
  const uint64_t size = stored_block_size(block.index, change.block_size, change.size);
  return {begin, begin + static_cast<std::ptrdiff_t>(size)};
}

class Segment : public ::testing::Test {
 protected:
  Segment() : file_(::memfd_create("segment", MFD_CLOEXEC)), writer_(file_.get()) {}
  Bytes bytes() const { return test::read_fd(file_.get()); }

  FileDescriptor file_;
  SegmentWriter writer_;
};

// Files can't grow beyond a limit while this lives: writes fail as they do on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t limit) {
    previous_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    const struct rlimit tight = {limit, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, previous_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  struct rlimit old_ {};
  void (*previous_)(int) = nullptr;
};

TEST(SegmentCodec, GivesBackEveryPointAndEveryBlock) {
  EXPECT_TRUE(rc::check([] {
    test::RandomLog log(*rc::gen::arbitrary<uint32_t>());
    const auto count = *rc::gen::inRange<size_t>(1, 30);
    std::vector<Point> points;
    for (size_t i = 0; i < count; ++i) {
      points.push_back(log.next());
      points.back().position = Position::of(3, i + 7);
      points.back().partial = *rc::gen::inRange(0, 3) == 0;
    }
    const Bytes object = make_segment(points);
    const auto index = read_index(object);
    RC_ASSERT(index.ok());
    RC_ASSERT(index->first == Position::of(3, 7) && index->last == Position::of(3, count + 6));
    const auto frames = read_all(object);
    RC_ASSERT(frames.ok() && index->points.size() == points.size());
    for (size_t i = 0; i < count; ++i) {
      RC_ASSERT(index->points[i].changes.size() == points[i].changes.size());
      RC_ASSERT(index->points[i].partial == points[i].partial);
      for (size_t k = 0; k < points[i].changes.size(); ++k) {
        const auto* written = std::get_if<SetContent>(&points[i].changes[k]);
        if (written == nullptr) continue;
        const auto& read = std::get<SetContent>(index->points[i].changes[k]);
        for (size_t b = 0; b < written->blocks.size(); ++b) {
          if (written->blocks[b].hash == kZeroBlockHash) continue;
          const ByteView data = written->blocks[b].data;
          RC_ASSERT(block_data(*index, *frames, read, read.blocks[b]) ==
                    Bytes(data.begin(), data.end()));
        }
      }
    }
  }));
}

TEST(SegmentCodec, RefusesEveryFlippedByte) {
  const Bytes data = noise(1500, 1);
  const Bytes object = make_segment({block_point(1, data, 512), block_point(2, data, 1024)});
  ASSERT_TRUE(read_all(object).ok());
  for (size_t at = 0; at < object.size(); ++at) {
    for (const uint8_t bit : {uint8_t{1}, uint8_t{0x80}}) {
      Bytes spoilt = object;
      spoilt[at] ^= bit;
      EXPECT_FALSE(read_all(spoilt).ok()) << "byte " << at;
    }
  }
}

TEST(SegmentCodec, RefusesEveryTruncationAndEveryExtension) {
  const Bytes data = noise(1500, 1);
  const Bytes object = make_segment({block_point(1, data, 512)});
  for (size_t size = 0; size < object.size(); ++size) {
    const auto index = read_index(ByteView(object).first(size));
    ASSERT_FALSE(index.ok()) << size;
    EXPECT_EQ(index.error().code, Errc::kDamaged);
  }
  Bytes longer = object;
  longer.push_back(0);
  EXPECT_FALSE(read_index(longer).ok());
}

TEST(SegmentCodec, NamesTheObjectThatIsDamaged) {
  Bytes object = make_segment({block_point(1, noise(512, 1), 512)});
  object[object.size() - 20] ^= 1;
  const auto index = read_segment_index("log/0/this.seg", object.size(), read_from_bytes(object));
  ASSERT_FALSE(index.ok());
  EXPECT_THAT(index.error().message, ::testing::HasSubstr("log/0/this.seg"));
}

TEST(SegmentCodec, SaysThatANewerProgramIsNeededForAnotherVersion) {
  Bytes object = make_segment({block_point(1, noise(512, 1), 512)});
  object[8] = 2;
  const auto index = read_index(object);
  ASSERT_FALSE(index.ok());
  EXPECT_EQ(index.error().code, Errc::kUnsupported);
}

// Who does not know what a partial point is must not take it for another.
TEST(SegmentCodec, HasAFlagIfAPointIsPartialAndRefusesFlagsThatItDoesNotKnow) {
  const Bytes data = noise(512, 1);
  Point partial = block_point(2, data, 512);
  partial.partial = true;
  const Bytes plain = make_segment({block_point(1, data, 512)});
  const Bytes flagged = make_segment({block_point(1, data, 512), partial});
  EXPECT_EQ(plain[10], 0);
  EXPECT_EQ(flagged[10], 1);
  ASSERT_TRUE(read_index(flagged).ok());
  Bytes spoilt = flagged;
  spoilt[10] = 5;
  const auto index = read_index(spoilt);
  ASSERT_FALSE(index.ok());
  EXPECT_EQ(index.error().code, Errc::kUnsupported);
}

TEST_F(Segment, HasNoFlagWhenItsPartialPointWasTakenBack) {
  const Bytes data = noise(600, 1);
  Point partial = block_point(2, data, 512);
  partial.partial = true;
  ASSERT_TRUE(writer_.add(block_point(1, data, 512)).ok());
  ASSERT_TRUE(writer_.add(partial).ok());
  writer_.undo();
  ASSERT_TRUE(writer_.finish().ok());
  EXPECT_EQ(bytes(), make_segment({block_point(1, data, 512)}));
}

TEST(SegmentCodec, ReadsOnlyHeaderIndexAndTrailerForAnIndex) {
  const Bytes data = noise(3 * kFrameTarget, 2);
  const Bytes object = make_segment({block_point(1, data, 4096)});
  uint64_t fetched = 0;
  const auto index = read_segment_index("seg", object.size(), [&](uint64_t offset, uint64_t size) {
    fetched += size;
    return read_from_bytes(object)(offset, size);
  });
  ASSERT_TRUE(index.ok());
  EXPECT_LT(fetched, object.size() / 50);
  EXPECT_GE(index->frames.size(), 3U);
  EXPECT_EQ(index->frames.front().offset, kSegmentHeaderSize);
}

TEST(SegmentCodec, KeepsEveryBlockWithinOneFrame) {
  // Block sizes that do not divide a frame.
  const Bytes data = noise(3 * kFrameTarget + 77, 3);
  const Bytes object = make_segment({block_point(1, data, 65536), block_point(2, data, 3 * 512)});
  const auto index = read_index(object);
  ASSERT_TRUE(index.ok());
  for (const Point& point : index->points) {
    const auto& change = std::get<SetContent>(point.changes[0]);
    for (const BlockChange& block : change.blocks) {
      const auto& frame = index->frames[index->frame_of(block.data_offset)];
      const uint64_t size = stored_block_size(block.index, change.block_size, change.size);
      EXPECT_LE(block.data_offset + size, frame.data_start + frame.raw_size);
      EXPECT_LE(frame.raw_size, kFrameRawMax);
    }
  }
}

TEST(SegmentCodec, StoresRepeatedVersionsOfAPageByTheirDifference) {
  Bytes page = noise(65536, 4);
  std::vector<Bytes> versions;
  for (uint8_t i = 0; i < 10; ++i) {
    page[100] = i;
    versions.push_back(page);
  }
  std::vector<Point> points;
  for (size_t i = 0; i < versions.size(); ++i) {
    points.push_back(block_point(i + 1, versions[i], 65536));
  }
  EXPECT_LT(make_segment(points).size(), 2 * page.size());
}

TEST(SegmentCodec, HoldsPointsThatChangeNothing) {
  Point point;
  point.position = Position::of(1, 1);
  const auto index = read_index(make_segment({point}));
  ASSERT_TRUE(index.ok());
  EXPECT_TRUE(index->frames.empty());
  ASSERT_EQ(index->points.size(), 1U);
  EXPECT_TRUE(index->points[0].changes.empty());
}

TEST_F(Segment, LooksAsItDidBeforeAnAddThatWasTakenBack) {
  const Bytes first = noise(3000, 1);
  const Bytes large = noise(3 * kFrameTarget, 2);
  const Bytes third = noise(2000, 3);
  ASSERT_TRUE(writer_.add(block_point(1, first, 512)).ok());
  ASSERT_TRUE(writer_.add(block_point(2, large, 512)).ok());
  writer_.undo();
  EXPECT_EQ(writer_.last(), Position::of(1, 1));
  ASSERT_TRUE(writer_.add(block_point(2, third, 512)).ok());
  ASSERT_TRUE(writer_.finish().ok());
  EXPECT_EQ(bytes(), make_segment({block_point(1, first, 512), block_point(2, third, 512)}));
  EXPECT_EQ(writer_.bytes_written(), bytes().size());
}

TEST_F(Segment, IsEmptyAgainWhenItsOnlyPointWasTakenBack) {
  const Bytes data = noise(2 * kFrameTarget, 1);
  ASSERT_TRUE(writer_.add(block_point(1, data, 512)).ok());
  EXPECT_FALSE(writer_.empty());
  writer_.undo();
  EXPECT_TRUE(writer_.empty());
  ASSERT_TRUE(writer_.add(block_point(1, ByteView(data).first(512), 512)).ok());
  ASSERT_TRUE(writer_.finish().ok());
  EXPECT_EQ(bytes(), make_segment({block_point(1, ByteView(data).first(512), 512)}));
}

TEST_F(Segment, TakesTheSamePointAgainAfterTheDiskWasFull) {
  const Bytes first = noise(600, 1);
  const Bytes large = noise(4 * kFrameTarget, 2);
  ASSERT_TRUE(writer_.add(block_point(1, first, 512)).ok());
  for (const rlim_t limit : {rlim_t{40}, rlim_t{kFrameTarget}, rlim_t{2 * kFrameTarget + 5}}) {
    const FileSizeLimit full(limit);
    const Status added = writer_.add(block_point(2, large, 4096));
    ASSERT_FALSE(added.ok());
    EXPECT_EQ(writer_.last(), Position::of(1, 1));
  }
  ASSERT_TRUE(writer_.add(block_point(2, large, 4096)).ok());
  ASSERT_TRUE(writer_.finish().ok());
  EXPECT_EQ(bytes(), make_segment({block_point(1, first, 512), block_point(2, large, 4096)}));
}

TEST_F(Segment, IsFinishedByASecondTryAfterTheDiskWasFull) {
  const Bytes data = noise(100000, 1);
  ASSERT_TRUE(writer_.add(block_point(1, data, 512)).ok());
  for (const rlim_t limit : {rlim_t{100}, rlim_t{60000}, rlim_t{100100}}) {
    const FileSizeLimit full(limit);
    ASSERT_FALSE(writer_.finish().ok());
  }
  ASSERT_TRUE(writer_.finish().ok());
  EXPECT_EQ(bytes(), make_segment({block_point(1, data, 512)}));
}

// ---- Segments that lie: made by hand, with all checksums right.

struct Forgery {
  ByteWriter index;  // Raw.
  std::optional<uint64_t> index_offset;
  std::optional<uint32_t> index_size, index_raw_size;
  size_t data_size = 100;
  uint16_t flags = 0;

  Bytes make() const {
    ByteWriter out;
    out.bytes(as_bytes("walfsseg"));
    out.u16(1);
    out.u16(flags);
    out.u32(0);
    out.u64(Position::of(1, 1).value);
    out.u64(Position::of(1, 1).value);
    const Bytes header = out.data();
    out.bytes(Bytes(data_size));
    const Bytes stored = compress(index.data(), 1);
    ByteWriter trailer;
    trailer.u64(index_offset.value_or(out.size()));
    trailer.u32(index_size.value_or(static_cast<uint32_t>(stored.size())));
    trailer.u32(index_raw_size.value_or(static_cast<uint32_t>(index.size())));
    trailer.u64(stored_hash(stored));
    out.bytes(stored);
    Bytes covered = header;
    covered.insert(covered.end(), trailer.data().begin(), trailer.data().end());
    trailer.u64(stored_hash(covered));
    trailer.bytes(as_bytes("walfsend"));
    out.bytes(trailer.data());
    return out.take();
  }
};

// The largest range that a reader asks for is the measure of what it would allocate.
uint64_t largest_read(const Bytes& object) {
  uint64_t largest = 0;
  const auto index = read_segment_index("seg", object.size(), [&](uint64_t offset, uint64_t size) {
    largest = std::max(largest, size);
    return read_from_bytes(object)(offset, size);
  });
  EXPECT_FALSE(index.ok());
  return largest;
}

Forgery one_point(uint64_t stored_size, uint64_t raw_size) {
  Forgery forgery;
  forgery.index.varint(1);
  forgery.index.varint(stored_size);
  forgery.index.varint(raw_size);
  forgery.index.u64(0);
  forgery.index.varint(1);
  forgery.index.u64(Position::of(1, 1).value);
  forgery.index.u64(0);
  forgery.index.varint(1);
  forgery.index.u8(4);
  forgery.index.varint(2);
  forgery.index.u8(0);
  forgery.index.varint(512);
  forgery.index.varint(512);
  forgery.index.varint(1);
  forgery.index.varint(0);
  forgery.index.u64(99);
  return forgery;
}

TEST(SegmentForgery, OfOnePointIsTakenAsLongAsItIsTrue) {
  EXPECT_TRUE(read_index(one_point(100, 512).make()).ok());
}

TEST(SegmentForgery, WithPartialPointsThatItDoesNotHaveIsRefused) {
  const auto is_read = [](uint64_t count, uint64_t number) {
    Forgery forgery = one_point(100, 512);
    forgery.flags = 1;
    forgery.index.varint(count);
    if (count > 0) forgery.index.varint(number);
    return read_index(forgery.make()).ok();
  };
  EXPECT_TRUE(is_read(1, 0));
  EXPECT_FALSE(is_read(0, 0));
  EXPECT_FALSE(is_read(1, 1));
  EXPECT_FALSE(is_read(1, UINT64_MAX));
  EXPECT_FALSE(is_read(2, 0));
}

TEST(SegmentForgery, WithFramesThatReachIntoTheIndexIsRefused) {
  EXPECT_FALSE(read_index(one_point(101, 512).make()).ok());
  EXPECT_FALSE(read_index(one_point(UINT64_MAX, 512).make()).ok());
}

TEST(SegmentForgery, WithFramesLargerThanAnyFrameIsRefused) {
  EXPECT_FALSE(read_index(one_point(100, kFrameRawMax + 1).make()).ok());
  EXPECT_FALSE(read_index(one_point(100, 0).make()).ok());
}

TEST(SegmentForgery, WithDataThatNoBlockUsesIsRefused) {
  EXPECT_FALSE(read_index(one_point(100, 513).make()).ok());
}

TEST(SegmentForgery, WithABlockThatCrossesFramesIsRefused) {
  Forgery forgery;
  forgery.index.varint(2);
  for (int i = 0; i < 2; ++i) {
    forgery.index.varint(50);
    forgery.index.varint(256);
    forgery.index.u64(0);
  }
  const Bytes rest = one_point(100, 512).index.data();
  forgery.index.bytes(ByteView(rest).subspan(1 + 1 + 2 + 8));
  const auto index = read_index(forgery.make());
  ASSERT_FALSE(index.ok());
  EXPECT_THAT(index.error().message, ::testing::HasSubstr("crosses"));
}

TEST(SegmentForgery, WithAnIndexOutsideOfTheObjectReadsNothingThere) {
  Forgery forgery = one_point(100, 512);
  const uint64_t size = forgery.make().size();
  forgery.index_size = UINT32_MAX;
  // The sum of offset and size wraps round to the right one.
  forgery.index_offset = size - kSegmentTrailerSize - uint64_t{UINT32_MAX};
  EXPECT_LE(largest_read(forgery.make()), size);
}

TEST(SegmentForgery, WithAnIndexThatBeginsInTheHeaderIsRefused) {
  Forgery forgery = one_point(100, 512);
  const uint64_t size = forgery.make().size();
  forgery.index_offset = 8;
  forgery.index_size = static_cast<uint32_t>(size - kSegmentTrailerSize - 8);
  EXPECT_FALSE(read_index(forgery.make()).ok());
}

TEST(SegmentForgery, WithAnIndexThatAnnouncesMoreThanItCanHoldIsRefused) {
  Forgery forgery = one_point(100, 512);
  forgery.index_raw_size = uint32_t{1} << 30;
  EXPECT_FALSE(read_index(forgery.make()).ok());
  forgery.index_raw_size = UINT32_MAX;
  EXPECT_FALSE(read_index(forgery.make()).ok());
}

TEST(SegmentForgery, WithPositionsThatSkipIsRefused) {
  Point first, third;
  first.position = Position::of(1, 1);
  third.position = Position::of(1, 3);
  EXPECT_FALSE(read_index(make_segment({first, third})).ok());
}

}  // namespace
}  // namespace walfs
