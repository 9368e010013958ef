#include "replicator/change_codec.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "tests/support/log_model.h"

namespace walfs {
namespace {

Attributes some_attributes() {
  Attributes attributes;
  attributes.type = FileType::kCharacter;
  attributes.mode = 07751;
  attributes.uid = UINT32_MAX;
  attributes.gid = 33;
  attributes.rdev = 0x501;
  attributes.mtime_ns = -5;
  attributes.symlink_target = "../there";
  attributes.xattrs = {{"user.a", ""}, {"user.b", std::string("\0\xff", 2)}};
  return attributes;
}

Bytes encoded(const Point& point) {
  ByteWriter out;
  encode_point(point, out);
  return out.take();
}

// The point with its blocks' data replaced by where it lies, as a reader sees it.
Point as_read(Point point, uint64_t& data_offset) {
  for (Change& change : point.changes) {
    auto* content = std::get_if<SetContent>(&change);
    if (content == nullptr) continue;
    for (BlockChange& block : content->blocks) {
      block.data_offset = data_offset;
      data_offset += block.data.size();
      block.data = {};
    }
  }
  return point;
}

bool same(const Change& a, const Change& b) {
  if (a.index() != b.index()) return false;
  if (const auto* file = std::get_if<SetFile>(&a)) {
    const auto& other = std::get<SetFile>(b);
    return file->id == other.id && file->attributes == other.attributes;
  }
  if (const auto* drop = std::get_if<DropFile>(&a)) return drop->id == std::get<DropFile>(b).id;
  if (const auto* entry = std::get_if<SetEntry>(&a)) {
    const auto& other = std::get<SetEntry>(b);
    return entry->parent == other.parent && entry->name == other.name &&
           entry->child == other.child;
  }
  const auto& one = std::get<SetContent>(a);
  const auto& other = std::get<SetContent>(b);
  return one.id == other.id && one.block_size == other.block_size && one.size == other.size &&
         one.reset == other.reset && one.database == other.database &&
         one.checksum == other.checksum &&
         std::equal(one.blocks.begin(), one.blocks.end(), other.blocks.begin(), other.blocks.end(),
                    [](const BlockChange& x, const BlockChange& y) {
                      return x.index == y.index && x.hash == y.hash &&
                             x.data_offset == y.data_offset && y.data.empty();
                    });
}

// A content change of one block, to be spoilt.
SetContent one_block(uint64_t index, uint32_t block_size, uint64_t size) {
  SetContent change;
  change.id = 2;
  change.block_size = block_size;
  change.size = size;
  change.blocks = {{index, 77, {}, 0}};
  return change;
}

bool readable(const Change& change) {
  Point point;
  point.changes = {change};
  const Bytes bytes = encoded(point);
  ByteReader in(bytes);
  uint64_t data_offset = 0;
  decode_point(in, data_offset);
  return in.ok() && in.at_end();
}

TEST(ChangeCodec, ReadsBackWhatItWrote) {
  EXPECT_TRUE(rc::check([] {
    test::RandomLog log(*rc::gen::arbitrary<uint32_t>());
    uint64_t written = *rc::gen::inRange<uint64_t>(0, 1 << 20);
    uint64_t read = written;
    for (int i = 0; i < 20; ++i) {
      Point point = log.next();
      point.position = Position::of(1, static_cast<uint64_t>(i) + 1);
      point.time_ns = -1;
      const Bytes bytes = encoded(point);
      const Point expected = as_read(point, written);
      ByteReader in(bytes);
      const Point found = decode_point(in, read);
      RC_ASSERT(in.ok() && in.at_end());
      RC_ASSERT(read == written);
      RC_ASSERT(found.position == point.position && found.time_ns == point.time_ns);
      RC_ASSERT(std::equal(found.changes.begin(), found.changes.end(), expected.changes.begin(),
                           expected.changes.end(),
                           [](const Change& a, const Change& b) { return same(b, a); }));
    }
  }));
}

TEST(ChangeCodec, ReadsBackAllAttributes) {
  ByteWriter out;
  encode_attributes(some_attributes(), out);
  ByteReader in(out.data());
  EXPECT_EQ(decode_attributes(in), some_attributes());
  EXPECT_TRUE(in.ok() && in.at_end());
}

TEST(ChangeCodec, RefusesEveryTruncatedPoint) {
  Point point;
  point.changes = {SetFile{2, some_attributes()}, SetEntry{1, "name", 2}, one_block(3, 512, 4096),
                   DropFile{2}};
  const Bytes bytes = encoded(point);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ByteReader in(ByteView(bytes).first(size));
    uint64_t data_offset = 0;
    decode_point(in, data_offset);
    EXPECT_FALSE(in.ok()) << size;
  }
}

TEST(ChangeCodec, RefusesNamesThatLeadElsewhere) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("/"),
        std::string("a\0b", 3), std::string(256, 'x')}) {
    EXPECT_FALSE(valid_name(name)) << name;
    EXPECT_FALSE(readable(SetEntry{1, name, 2})) << name;
  }
  for (const std::string& name : {std::string("..."), std::string(" "), std::string(255, 'x'),
                                  std::string("\xff\n"), std::string(".walfs")}) {
    EXPECT_TRUE(valid_name(name)) << name;
    EXPECT_TRUE(readable(SetEntry{1, name, 2})) << name;
  }
}

TEST(ChangeCodec, RefusesBlocksBehindTheEndOfTheFile) {
  EXPECT_TRUE(readable(one_block(7, 512, 4096)));
  EXPECT_FALSE(readable(one_block(8, 512, 4096)));
  EXPECT_TRUE(readable(one_block(8, 512, 4097)));
  EXPECT_FALSE(readable(one_block(UINT64_MAX, 512, 4096)));
}

TEST(ChangeCodec, RefusesBlockSizesOutOfBounds) {
  EXPECT_FALSE(readable(one_block(0, 0, 4096)));
  EXPECT_FALSE(readable(one_block(0, 511, 4096)));
  EXPECT_FALSE(readable(one_block(0, 65537, 65537)));
  EXPECT_TRUE(readable(one_block(0, 65536, 65536)));
}

TEST(ChangeCodec, RefusesTheHashThatMeansNotLookedAt) {
  SetContent change = one_block(0, 512, 512);
  change.blocks[0].hash = kUnknownHash;
  EXPECT_FALSE(readable(change));
}

TEST(ChangeCodec, RefusesSizesThatNoFileHas) {
  EXPECT_TRUE(readable(one_block(0, 512, uint64_t{INT64_MAX})));
  EXPECT_FALSE(readable(one_block(0, 512, uint64_t{INT64_MAX} + 1)));
}

TEST(ChangeCodec, RefusesFilesWithoutAnId) {
  EXPECT_FALSE(readable(SetFile{kNoFile, {}}));
}

TEST(ChangeCodec, RefusesTypesAndModesThatDoNotExist) {
  Attributes attributes;
  attributes.mode = 010000;
  EXPECT_FALSE(readable(SetFile{2, attributes}));
  attributes.mode = 0;
  attributes.type = static_cast<FileType>(7);
  EXPECT_FALSE(readable(SetFile{2, attributes}));
}

// A count is no reason to reserve memory: it must fit into what follows.
TEST(ChangeCodec, RefusesCountsOfMoreThanTheInputCanHold) {
  for (const uint64_t count : {uint64_t{2}, uint64_t{1} << 32, UINT64_MAX}) {
    ByteWriter point;
    point.u64(1);
    point.u64(1);
    point.varint(1);
    point.u8(4);
    point.varint(2);
    point.u8(0);
    point.varint(512);
    point.varint(1 << 20);
    point.varint(count);
    point.varint(0);
    point.u64(77);
    ByteReader in(point.data());
    uint64_t data_offset = 0;
    decode_point(in, data_offset);
    EXPECT_FALSE(in.ok()) << count;
  }
}

TEST(ChangeCodec, RefusesUnknownTagsAndFlags) {
  Point point;
  point.changes = {one_block(0, 512, 512)};
  Bytes bytes = encoded(point);
  const size_t tag = 17;
  ASSERT_EQ(bytes[tag], 4);
  for (const auto& [at, value] : {std::pair<size_t, uint8_t>{tag, 5}, {tag, 0}, {tag + 2, 8}}) {
    Bytes spoilt = bytes;
    spoilt[at] = value;
    ByteReader in(spoilt);
    uint64_t data_offset = 0;
    decode_point(in, data_offset);
    EXPECT_FALSE(in.ok()) << at;
  }
}

}  // namespace
}  // namespace walfs
