#include "replicator/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Verify : public ::testing::Test {
 protected:
  Verify() : builder_(store_, 5) {
    for (int i = 0; i < 30; ++i) {
      builder_.add();
      if (i % 5 == 4) builder_.seal();
    }
    builder_.put_snapshot(at(0), at(2));
    builder_.put_snapshot(at(10), at(13));
  }
  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  static std::string segment(uint64_t first) { return segment_key({at(first), at(first + 4)}); }
  VerifyReport verify() {
    auto report = verify_replica(store_);
    EXPECT_TRUE(report.ok()) << report.error().message;
    return report.ok() ? *report : VerifyReport();
  }

  test::MemoryStore store_;
  test::ReplicaBuilder builder_;
};

TEST_F(Verify, FindsNothingWrongInAWholeReplicaAndReadsAllOfIt) {
  const VerifyReport report = verify();
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(report.points, 29U);
  EXPECT_GT(report.bytes, 0U);
  for (const std::string& key : store_.keys("chunks/")) {
    EXPECT_GE(store_.count(test::Call::kGet, key), 1U) << key;
  }
}

TEST_F(Verify, NamesEveryDamagedObject) {
  for (const std::string& key : store_.keys()) {
    if (key == kVolumeKey || key.starts_with(kEpochPrefix)) continue;
    const Bytes whole = store_.objects().at(key);
    for (const size_t offset : {size_t{35}, whole.size() - 30, whole.size() - 1}) {
      if (offset >= whole.size()) continue;
      store_.flip(key, offset);
      EXPECT_THAT(verify().damaged, Contains(HasSubstr(key))) << "byte " << offset;
      store_.set_object(key, whole);
    }
  }
}

TEST_F(Verify, NamesAMissingChunk) {
  const std::string key = store_.keys("chunks/")[0];
  store_.erase_object(key);
  EXPECT_THAT(verify().damaged, Contains(HasSubstr(key)));
}

TEST_F(Verify, CountsNoPointBehindADamagedSegmentWhateverLeadsThere) {
  store_.flip(segment(16), 40);
  const VerifyReport report = verify();
  EXPECT_THAT(report.damaged, Contains(HasSubstr(segment(16))));
  EXPECT_EQ(report.points, 14U);  // 2 to 15.
  ASSERT_EQ(report.lost.size(), 1U);
  EXPECT_EQ(report.lost[0].first, at(16));
  EXPECT_EQ(report.lost[0].last, at(30));
}

TEST_F(Verify, NamesTheGapThatAMissingSegmentLeaves) {
  store_.erase_object(segment(16));
  const VerifyReport report = verify();
  EXPECT_THAT(report.damaged, ElementsAre(AllOf(HasSubstr("gap"), HasSubstr(segment(21)))));
  EXPECT_EQ(report.points, 14U);
  ASSERT_EQ(report.lost.size(), 1U);
  EXPECT_EQ(report.lost[0].first, at(21));
  EXPECT_EQ(report.lost[0].last, at(30));
}

TEST_F(Verify, CountsNoPointThatOnlyADamagedChunkLeadsTo) {
  for (const std::string& key : store_.keys("chunks/"))
    store_.flip(key, store_.objects().at(key).size() - 1);
  const VerifyReport report = verify();
  EXPECT_THAT(report.damaged, ::testing::Not(IsEmpty()));
  EXPECT_EQ(report.points, 29U) << "the other snapshot leads everywhere";
  store_.erase_object(snapshot_key({at(0), at(2)}));
  EXPECT_EQ(verify().points, 0U);
  ASSERT_EQ(verify().lost.size(), 1U);
  EXPECT_EQ(verify().lost[0].last, at(30));
}

// Its first upload was begun again, and has not ended; what an earlier writer left is all there is.
TEST_F(Verify, DoesNotMissWhatWasLoggedBesideAFirstUploadThatHasNotEnded) {
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, at(30), /*fresh=*/true)).ok());
  for (const uint64_t first : {uint64_t{31}, uint64_t{33}}) {
    Point point;
    point.position = Position::of(2, first);
    store_.set_object(segment_key({point.position, point.position}), test::make_segment({point}));
  }
  EXPECT_THAT(verify().damaged, IsEmpty());
}

TEST_F(Verify, DoesNotMissWhatAReplacedWriterHasAddedAtTheEnd) {
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, at(25), /*fresh=*/false)).ok());
  EXPECT_THAT(verify().damaged, IsEmpty());
}

TEST_F(Verify, NamesADamagedObjectOnceForAllRoutesThatNeedIt) {
  store_.flip(segment(16), 40);
  EXPECT_THAT(verify().damaged, ElementsAre(HasSubstr(segment(16))));
  const auto whole = store_.objects().at(segment(21));
  store_.flip(segment(21), whole.size() - 1);
  EXPECT_THAT(verify().damaged, ElementsAre(HasSubstr(segment(16)), HasSubstr(segment(21))));
}

TEST_F(Verify, FindsAStateThatDoesNotHaveItsChecksum) {  // I6
  // A snapshot that is whole in itself but says something else than its chunks and the log.
  Snapshot snapshot = builder_.make_snapshot(at(25), at(30));
  bool changed = false;
  for (SnapshotFile& file : snapshot.files) {
    if (file.block_size == 0 || changed) continue;
    file.checksum += 1;
    changed = true;
  }
  ASSERT_TRUE(changed);
  store_.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  EXPECT_THAT(verify().damaged, ElementsAre(HasSubstr("checksum")));
}

TEST_F(Verify, OfAReplicaThatCannotBeRestoredSaysSo) {
  for (const std::string& key : store_.keys("snapshots/")) store_.erase_object(key);
  const auto report = verify_replica(store_);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kNothingThere);
}

TEST_F(Verify, TakesWhatTheStoreDoesNotDeliverForNoDamageAndAsksForNothingElse) {
  const std::string chunk = store_.keys("chunks/")[0];
  for (const std::string& key : {chunk, snapshot_key({at(0), at(2)}), segment(6)}) {
    for (const Errc code : {Errc::kRetry, Errc::kDenied, Errc::kIo}) {
      const bool in_parts = key == segment(6);
      store_.fail(in_parts ? test::Call::kGetRange : test::Call::kGet, code, 1, 0, key);
      const auto report = verify_replica(store_);
      ASSERT_FALSE(report.ok()) << key;
      EXPECT_EQ(report.error().code, code);
      EXPECT_EQ(store_.requests().back().key, key);
    }
  }
  EXPECT_THAT(verify().damaged, IsEmpty());
}

TEST_F(Verify, PartialPointsAreReadAndNotCounted) {
  builder_.add_partial();
  builder_.seal();
  builder_.add();
  builder_.add_partial();
  builder_.seal();
  const VerifyReport report = verify();
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(report.points, 30U);
  const std::string last = segment_key({at(32), at(33)});
  store_.flip(last, store_.objects().at(last).size() - 1);
  EXPECT_THAT(verify().damaged, Contains(HasSubstr(last)));
}

}  // namespace
}  // namespace walfs
