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
}

TEST_F(Verify, NamesADamagedObjectOnceForAllRoutesThatNeedIt) {
  store_.flip(segment(16), 40);
  EXPECT_THAT(verify().damaged, ElementsAre(HasSubstr(segment(16))));
  const auto whole = store_.objects().at(segment(21));
  store_.flip(segment(21), whole.size() - 1);
  EXPECT_THAT(verify().damaged, ElementsAre(HasSubstr(segment(16))));
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

TEST_F(Verify, HistoryListsEveryPointThatCanBeRestoredOnceAndInOrder) {
  const auto history = read_history(store_);
  ASSERT_TRUE(history.ok());
  ASSERT_EQ(history->size(), 29U);
  for (size_t i = 0; i < history->size(); ++i) {
    EXPECT_EQ((*history)[i].position, at(i + 2));
    EXPECT_EQ((*history)[i].time_ns, test::ReplicaBuilder::time_of(at(i + 2)));
  }
}

}  // namespace
}  // namespace walfs
