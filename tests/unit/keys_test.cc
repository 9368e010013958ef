#include "replicator/keys.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "replicator/stores/object_key.h"

namespace walfs {
namespace {

const PositionRange kRange{Position::of(1, 2), Position::of(1, 0xff)};

TEST(Keys, AreWhatTheFormatSays) {
  EXPECT_EQ(epoch_key(0x1a), "epochs/00001a.json");
  EXPECT_EQ(segment_key(kRange), "log/0/0000010000000002-00000100000000ff.seg");
  EXPECT_EQ(segment_name(kRange), "0000010000000002-00000100000000ff.seg");
  EXPECT_EQ(snapshot_key(kRange), "snapshots/0000010000000002-00000100000000ff.snap");
  Sha256Digest digest{};
  digest[0] = 0xab;
  EXPECT_EQ(chunk_key(digest), "chunks/ab/ab" + std::string(62, '0') + ".chunk");
}

TEST(Keys, AreReadBack) {
  EXPECT_TRUE(rc::check([] {
    const uint64_t a = *rc::gen::arbitrary<uint64_t>();
    const uint64_t b = *rc::gen::arbitrary<uint64_t>();
    const PositionRange range{{std::min(a, b)}, {std::max(a, b)}};
    const unsigned level = *rc::gen::inRange(0U, kLevelMax + 1);
    RC_ASSERT(parse_segment_key(segment_key(range, level)) == (SegmentKey{range, level}));
    RC_ASSERT(parse_segment_name(segment_name(range)) == range);
    RC_ASSERT(parse_snapshot_key(snapshot_key(range)) == range);
    const uint64_t epoch = 1 + a % Position::kEpochMax;
    RC_ASSERT(parse_epoch_key(epoch_key(epoch)) == epoch);
  }));
}

TEST(Keys, ListInTheOrderOfThePositions) {
  EXPECT_TRUE(rc::check([] {
    const PositionRange a{{*rc::gen::arbitrary<uint64_t>()}, {UINT64_MAX}};
    const PositionRange b{{*rc::gen::arbitrary<uint64_t>()}, {UINT64_MAX}};
    RC_ASSERT((a.first < b.first) == (segment_key(a) < segment_key(b)));
  }));
}

TEST(Keys, AreValidObjectKeys) {
  for (const std::string& key : {epoch_key(1), segment_key(kRange), snapshot_key(kRange),
                                 chunk_key(Sha256Digest{}), std::string(kVolumeKey)}) {
    EXPECT_TRUE(is_valid_key(key)) << key;
  }
}

TEST(Keys, OfStrangersAreNotTaken) {
  const std::string good = segment_key(kRange);
  for (size_t cut = 0; cut < good.size(); ++cut) {
    EXPECT_FALSE(parse_segment_key(good.substr(0, cut))) << cut;
  }
  EXPECT_FALSE(parse_segment_key(good + "x"));
  EXPECT_EQ(parse_segment_key("log/1/" + segment_name(kRange)), (SegmentKey{kRange, 1}));
  for (const char* level : {"", "a/", "-1/", "10/", "1", "//", "0/0/"})
    EXPECT_FALSE(parse_segment_key(std::string("log/") + level + segment_name(kRange))) << level;
  EXPECT_FALSE(parse_segment_key(snapshot_key(kRange)));
  EXPECT_FALSE(parse_segment_key("log/0/0000010000000002_00000100000000ff.seg"));
  EXPECT_FALSE(parse_segment_key("log/0/0000010000000002-00000100000000FF.seg"));
  EXPECT_FALSE(parse_segment_name("open.tmp"));
  EXPECT_FALSE(parse_segment_name("../" + segment_name(kRange)));
  EXPECT_FALSE(parse_snapshot_key(good));
  EXPECT_FALSE(parse_epoch_key("epochs/1.json"));
  EXPECT_FALSE(parse_epoch_key("epochs/0000001.json"));
  EXPECT_FALSE(parse_epoch_key("epochs/00000g.json"));
}

TEST(Keys, WithTheLastPositionBeforeTheFirstAreNotTaken) {
  EXPECT_FALSE(parse_segment_key(segment_key({Position::of(1, 2), Position::of(1, 1)})));
}

TEST(Keys, OfEpochZeroAreNotTakenBecauseThereIsNone) {
  EXPECT_FALSE(parse_epoch_key("epochs/000000.json"));
}

}  // namespace
}  // namespace walfs
