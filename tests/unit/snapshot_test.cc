#include "replicator/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace walfs {
namespace {

Snapshot small_snapshot() {
  Snapshot snapshot;
  snapshot.range = {Position::of(1, 3), Position::of(1, 9)};
  snapshot.time_ns = 1'700'000'000'000'000'000;
  ChunkRef chunk;
  chunk.digest[3] = 7;
  chunk.size = 5000;
  snapshot.chunks = {chunk};
  SnapshotFile root;
  root.id = kRootId;
  root.attributes.type = FileType::kDirectory;
  SnapshotFile file;
  file.id = 2;
  file.attributes.mode = 0640;
  file.attributes.xattrs = {{"user.k", "v"}};
  file.block_size = 1024;
  file.size = 5000;
  file.database = true;
  file.checksum = 0x1234567890abcdef;
  file.extents = {{1024, 3000, 0, 2000}};
  snapshot.files = {root, file};
  snapshot.entries = {{kRootId, "file", 2}};
  return snapshot;
}

Result<Snapshot> through(const Snapshot& snapshot) {
  return decode_snapshot("snap", encode_snapshot(snapshot));
}

TEST(SnapshotCodec, ReadsBackWhatItWrote) {
  const Snapshot written = small_snapshot();
  const auto read = through(written);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->range, written.range);
  EXPECT_EQ(read->time_ns, written.time_ns);
  ASSERT_EQ(read->chunks.size(), 1U);
  EXPECT_EQ(read->chunks[0].digest, written.chunks[0].digest);
  EXPECT_EQ(read->chunks[0].size, 5000U);
  ASSERT_EQ(read->files.size(), 2U);
  const SnapshotFile& file = read->files[1];
  EXPECT_EQ(file.attributes, written.files[1].attributes);
  EXPECT_EQ(file.block_size, 1024U);
  EXPECT_EQ(file.size, 5000U);
  EXPECT_TRUE(file.database);
  EXPECT_EQ(file.checksum, written.files[1].checksum);
  ASSERT_EQ(file.extents.size(), 1U);
  EXPECT_EQ(file.extents[0].file_offset, 1024U);
  EXPECT_EQ(file.extents[0].size, 3000U);
  EXPECT_EQ(file.extents[0].chunk_offset, 2000U);
  ASSERT_EQ(read->entries.size(), 1U);
  EXPECT_EQ(read->entries[0].name, "file");
}

TEST(SnapshotCodec, RefusesEveryFlippedByte) {
  const Bytes object = encode_snapshot(small_snapshot());
  for (size_t at = 0; at < object.size(); ++at) {
    for (const uint8_t bit : {uint8_t{1}, uint8_t{0x80}}) {
      Bytes spoilt = object;
      spoilt[at] ^= bit;
      EXPECT_FALSE(decode_snapshot("snap", spoilt).ok()) << "byte " << at;
    }
  }
}

TEST(SnapshotCodec, RefusesEveryTruncationAndEveryExtension) {
  const Bytes object = encode_snapshot(small_snapshot());
  for (size_t size = 0; size < object.size(); ++size) {
    const auto read = decode_snapshot("snap", ByteView(object).first(size));
    ASSERT_FALSE(read.ok()) << size;
    EXPECT_EQ(read.error().code, Errc::kDamaged);
    EXPECT_THAT(read.error().message, ::testing::HasSubstr("snap"));
  }
  Bytes longer = object;
  longer.push_back(0);
  EXPECT_FALSE(decode_snapshot("snap", longer).ok());
}

TEST(SnapshotCodec, RefusesNamesThatLeadElsewhere) {
  for (const std::string& name : {std::string(), std::string("."), std::string(".."),
                                  std::string("a/b"), std::string("a\0b", 3)}) {
    Snapshot snapshot = small_snapshot();
    snapshot.entries[0].name = name;
    EXPECT_FALSE(through(snapshot).ok()) << name;
  }
}

TEST(SnapshotCodec, RefusesExtentsOutsideOfTheirChunks) {
  for (const Extent& extent : {Extent{0, 3001, 0, 2000}, Extent{0, 5001, 0, 0}, Extent{0, 1, 1, 0},
                               Extent{0, UINT64_MAX, 0, 1}, Extent{0, 2, 0, UINT64_MAX}}) {
    Snapshot snapshot = small_snapshot();
    snapshot.files[1].extents = {extent};
    EXPECT_FALSE(through(snapshot).ok());
  }
}

TEST(SnapshotCodec, RefusesExtentsThatDoNotBeginAtABlock) {
  Snapshot snapshot = small_snapshot();
  snapshot.files[1].extents = {{512, 100, 0, 0}};
  EXPECT_FALSE(through(snapshot).ok());
}

TEST(SnapshotCodec, RefusesSizesOutOfBounds) {
  Snapshot snapshot = small_snapshot();
  snapshot.files[1].size = uint64_t{INT64_MAX} + 1;
  EXPECT_FALSE(through(snapshot).ok());
  for (const uint32_t block_size : {uint32_t{511}, uint32_t{65537}}) {
    snapshot = small_snapshot();
    snapshot.files[1].extents.clear();
    snapshot.files[1].block_size = block_size;
    EXPECT_FALSE(through(snapshot).ok());
  }
  for (const uint64_t chunk_size : {uint64_t{0}, kChunkSizeMax + 1}) {
    snapshot = small_snapshot();
    snapshot.files[1].extents.clear();
    snapshot.chunks[0].size = chunk_size;
    EXPECT_FALSE(through(snapshot).ok());
  }
}

TEST(SnapshotCodec, RefusesFilesWithoutAnId) {
  Snapshot snapshot = small_snapshot();
  snapshot.files[0].id = kNoFile;
  EXPECT_FALSE(through(snapshot).ok());
}

// The size of the content is checked against what the stored bytes can hold before any is reserved.
TEST(SnapshotCodec, RefusesToReserveWhatItCannotHold) {
  Bytes object = encode_snapshot(small_snapshot());
  ByteWriter header;
  header.bytes(ByteView(object).first(36));
  header.u64(uint64_t{4} << 30);  // The content's size.
  header.bytes(ByteView(object).subspan(44, 8));
  header.u64(stored_hash(header.data()));
  std::copy(header.data().begin(), header.data().end(), object.begin());
  const auto read = decode_snapshot("snap", object);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.error().message, ::testing::HasSubstr("more content than it can hold"));
}

TEST(SnapshotCodec, SaysThatANewerProgramIsNeededForAnotherVersion) {
  Bytes object = encode_snapshot(small_snapshot());
  object[8] = 2;
  const auto read = decode_snapshot("snap", object);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, Errc::kUnsupported);
}

class ChunkCodec : public ::testing::Test {
 protected:
  ChunkCodec() : content_(3000, 7), object_(encode_chunk(content_)) {
    expected_ = {sha256(content_), content_.size()};
  }
  Bytes content_;
  Bytes object_;
  ChunkRef expected_;
};

TEST_F(ChunkCodec, ReadsBackWhatItWrote) {
  const auto read = decode_chunk("chunk", expected_, object_);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(*read, content_);
}

TEST_F(ChunkCodec, RefusesOtherContentThanItsNameSays) {
  Bytes other = content_;
  other[5] = 8;
  const auto read = decode_chunk("chunk", expected_, encode_chunk(other));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, Errc::kDamaged);
}

TEST_F(ChunkCodec, NeverGivesWrongContentForAFlippedByteOrATruncation) {
  for (size_t at = 0; at < object_.size(); ++at) {
    Bytes spoilt = object_;
    spoilt[at] ^= 0x10;
    const auto read = decode_chunk("chunk", expected_, spoilt);
    EXPECT_TRUE(!read.ok() || *read == content_) << at;
    EXPECT_FALSE(decode_chunk("chunk", expected_, ByteView(object_).first(at)).ok()) << at;
  }
}

TEST_F(ChunkCodec, RefusesAnotherSize) {
  ChunkRef shorter = expected_;
  --shorter.size;
  EXPECT_FALSE(decode_chunk("chunk", shorter, object_).ok());
}

}  // namespace
}  // namespace walfs
