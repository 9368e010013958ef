#include "replicator/compactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/history.h"
#include "replicator/restore.h"
#include "replicator/verify.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/simulated_store.h"
#include "tests/support/tree_compare.h"

namespace walfs {
namespace {

using test::Call;

// A writer's log, uploaded segment by segment, and the compactor that follows it.
class CompactorTest : public ::testing::Test {
 protected:
  CompactorTest() {
    store_.tell_times();
    builder_.add();
    builder_.add();
    builder_.seal();
    builder_.put_snapshot(at(0), at(2));
    begin();
  }
  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  // The next process.
  void begin() { compactor_ = std::make_unique<Compactor>(store_, scratch_.path(), stopping_); }
  void upload() {
    const Position before = builder_.last();
    for (size_t i = builder_.log().below(3) + 1; i > 0; --i) builder_.add();
    builder_.seal();
    const PositionRange range{before.next(), builder_.last()};
    store_.set_time(segment_key(range), now_ns());
    compactor_->add(range, store_.objects().at(segment_key(range)).size());
    clock_.advance_ms(1000);
  }
  void upload(int count) {
    for (int i = 0; i < count; ++i) upload();
  }
  void compact_all() {
    while (true) {
      const auto done = compactor_->step();
      ASSERT_TRUE(done.ok()) << done.error().message;
      if (!*done) return;
    }
  }
  std::vector<std::string> segments(unsigned level) { return store_.keys(level_prefix(level)); }
  // Each point leads to what the model has, and verify finds nothing.
  void expect_every_point() {
    const auto history = read_history(store_);
    ASSERT_TRUE(history.ok()) << history.error().message;
    ASSERT_EQ(history->points.size(), builder_.last().sequence() - 1);
    for (const HistoryPoint& point : history->points) {
      EXPECT_EQ(point.time_ns, test::ReplicaBuilder::time_of(point.position));
      RestoreTarget target;
      target.position = point.position;
      const auto routed = make_restore_plan(store_, target);
      ASSERT_TRUE(routed.ok()) << routed.error().message;
      const auto& model = builder_.state(point.position);
      ASSERT_EQ(routed->plan.files.size(), model.files.size());
      for (const auto& [id, file] : model.files)
        ASSERT_EQ(routed->plan.files.at(id).size, file.content.size());
    }
    const auto report = verify_replica(store_);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_THAT(report->damaged, ::testing::IsEmpty());
    EXPECT_EQ(report->points, history->points.size());
  }

  test::SimulatedClock clock_;
  std::atomic<bool> stopping_{false};
  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
  test::ReplicaBuilder builder_{store_, 7};
  std::unique_ptr<Compactor> compactor_;
};

TEST_F(CompactorTest, PutsTogetherWhatWasUploadedAndKeepsEveryPoint) {
  upload(100);
  compact_all();
  EXPECT_GE(segments(1).size(), 3U);
  expect_every_point();
  clock_.advance_ms(3600 * 1000);
  upload();
  compact_all();
  EXPECT_EQ(segments(3).size(), 1U);
  expect_every_point();
}

TEST_F(CompactorTest, RemovesWhatItHasPutTogetherAfterTheTimeOfGraceAndNotBefore) {
  upload(100);
  compact_all();
  EXPECT_EQ(segments(0).size(), 101U);
  clock_.advance_ms(3590 * 1000);
  compact_all();
  clock_.advance_ms(3600 * 1000);
  upload();
  compact_all();
  EXPECT_EQ(segments(0).size(), 1U) << "the last one";
  EXPECT_TRUE(segments(1).empty());
  EXPECT_EQ(segments(3).size(), 1U);
  expect_every_point();
}

TEST_F(CompactorTest, MakesNoRequestWithoutUploads) {
  upload(40);
  compact_all();
  const size_t before = store_.requests().size();
  compact_all();
  EXPECT_EQ(store_.requests().size(), before);
}

// What it costs, whatever the clock: each segment is read once and written once for each level.
TEST_F(CompactorTest, ReadsEachSmallSegmentWithOneRequest) {
  upload(29);
  clock_.advance_ms(60 * 1000);
  const size_t gets = store_.count(Call::kGet, std::string(kLogPrefix));
  compact_all();
  EXPECT_LE(store_.count(Call::kGet, std::string(kLogPrefix)) - gets, 30U);
  EXPECT_EQ(store_.count(Call::kGetRange, std::string(kLogPrefix)), 0U);
}

TEST_F(CompactorTest, FindsAfterADeathWhatWasPutTogetherBefore) {
  upload(100);
  compact_all();
  const auto joined = segments(1);
  begin();
  upload(8);
  compact_all();
  for (const std::string& key : joined) EXPECT_TRUE(store_.objects().contains(key));
  expect_every_point();
  clock_.advance_ms(3600 * 1000);
  upload();
  compact_all();
  clock_.advance_ms(3600 * 1000);
  upload();
  compact_all();
  EXPECT_LE(segments(0).size() + segments(1).size() + segments(2).size() + segments(3).size(), 4U);
  expect_every_point();
}

// Whatever request fails, and wherever the process dies: every point is there, and in the end no
// more objects than without faults.
TEST_F(CompactorTest, LosesNothingWhereverItFailsOrDies) {
  upload(60);
  clock_.advance_ms(3600 * 1000);
  upload();
  for (size_t request = 0; request < 400; request += 1 + request / 6) {
    for (const Call call : {Call::kPut, Call::kGet, Call::kList, Call::kHead, Call::kRemove})
      store_.fail(call, Errc::kRetry, 1, request, "", /*took_effect=*/request % 2 == 0);
    for (int i = 0; i < 50; ++i) static_cast<void>(compactor_->step().ok());
    store_.heal();
    if (request % 3 == 0) begin();
    upload(request < 10 ? 9 : 1);
    if (request % 7 == 0) {
      clock_.advance_ms(3600 * 1000);
      expect_every_point();
    }
  }
  upload(8);
  compact_all();
  for (int hour = 0; hour < 2; ++hour) {
    clock_.advance_ms(3601 * 1000);
    upload();
    compact_all();
  }
  expect_every_point();
  EXPECT_LE(segments(0).size(), 5U) << "what came alone in its hour";
}

TEST_F(CompactorTest, LeavesADamagedSegmentAloneAndGoesOnWithTheRest) {
  upload(100);
  const std::string key = segments(0)[40];
  store_.flip(key, 40);
  size_t failures = 0;
  for (int i = 0; i < 40; ++i) failures += compactor_->step().ok() ? 0 : 1;
  EXPECT_EQ(failures, 1U);
  EXPECT_GE(segments(1).size(), 2U);
  EXPECT_TRUE(store_.objects().contains(key));
}

TEST_F(CompactorTest, MakesNoSegmentAcrossThePositionOnWhichAnotherEpochBuilds) {
  upload(40);
  const Position parent = builder_.segment_ends()[20];
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, parent, /*fresh=*/false)).ok());
  clock_.advance_ms(60 * 1000);
  compact_all();
  for (unsigned level = 1; level <= 3; ++level) {
    for (const std::string& key : segments(level)) {
      const PositionRange range = parse_segment_key(key)->range;
      EXPECT_FALSE(range.first <= parent && parent < range.last) << key;
    }
  }
}

TEST_F(CompactorTest, PutsWhatFollowsCloselyTogetherInLessThanItsParts) {
  uint64_t parts = 0;
  upload(60);
  for (const std::string& key : segments(0)) parts += store_.objects().at(key).size();
  clock_.advance_ms(3600 * 1000);
  upload();
  compact_all();
  ASSERT_EQ(segments(3).size(), 1U);
  EXPECT_LT(store_.objects().at(segments(3)[0]).size(), parts);
}

}  // namespace
}  // namespace walfs
