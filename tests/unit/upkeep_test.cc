// A writer's replica over a long time. An hour takes a second here, and so on.
#include "replicator/upkeep.h"

#include "tests/support/long_lived_replica.h"

namespace walfs {
namespace {

using test::Call;
using ::testing::IsEmpty;

using UpkeepTest = test::LongLivedReplica;
using test::kDayHours;
using test::kHour;
using test::kKeptHours;
using test::year_policy;

TEST_F(UpkeepTest, KeepsEachPointOfSevenDaysAndNotMuchMoreForALongTime) {
  for (int month = 0; month < 2; ++month) {
    live(30 * kDayHours);
    expect_kept();
    EXPECT_LE(store_.keys("snapshots/").size(), 10U);
    EXPECT_LE(store_.keys("log/").size(), 60U);
    EXPECT_LE(store_.keys("chunks/").size(), needed_chunks().size() + 4);
    const auto history = read_history(store_);
    ASSERT_TRUE(history.ok());
    EXPECT_LE(history->points.size(), kKeptHours + 3 * kDayHours);
  }
  const auto report = verify_replica(store_);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_THAT(report->damaged, IsEmpty());
}

TEST_F(UpkeepTest, KeepsEverythingForever) {
  UpkeepPolicy forever = year_policy();
  forever.retention.keep_ns = 0;
  begin(forever);
  live(20 * kDayHours);
  for (uint64_t sequence = 2; sequence <= builder_.last().sequence(); sequence += 31)
    expect_point(Position::of(1, sequence));
}

TEST_F(UpkeepTest, AnIdleWriterAsksTheStoreForNothing) {
  live(2 * kDayHours);
  clock_.advance_ms(100'000);
  ASSERT_TRUE(work().ok()) << "a snapshot of what came since the last one";
  store_.forget_requests();
  clock_.advance_ms(100'000);
  ASSERT_TRUE(work().ok());
  EXPECT_EQ(store_.requests().size(), 0U);
}

TEST_F(UpkeepTest, ADayTakesFewRequests) {
  live(10 * kDayHours);
  store_.forget_requests();
  live(10 * kDayHours);
  EXPECT_LE(store_.count(Call::kList), 10U * 16);
  EXPECT_LE(store_.count(Call::kPut, "snapshots/"), 10U);
  EXPECT_LE(store_.count(Call::kGet, "snapshots/"), 10U * 12);
}

// Any request may fail, or have its effect and no answer, and the process may die of it.
TEST_F(UpkeepTest, LosesNoPointThatIsKeptAndLeavesNothingBehindWhereverItDies) {
  live(9 * kDayHours);
  for (int round = 0; round < 60; ++round) {
    const auto call = std::vector{Call::kPut, Call::kRemove, Call::kGet, Call::kList}[round % 4];
    const auto skip = static_cast<size_t>(round / 4 % 5);
    for (uint64_t hour = 0; hour < kDayHours; ++hour) {
      pass_hour();
      store_.fail(call, Errc::kRetry, 1, skip, "", round % 3 == 0);
      const Status worked = work();
      store_.heal();
      if (!worked.ok() && round % 2 == 0) begin();
    }
    if (round % 15 == 14) expect_kept();
  }
  live(10 * kDayHours);
  expect_kept();
  EXPECT_LE(store_.keys("snapshots/").size(), 10U);
  EXPECT_LE(store_.keys("log/").size(), 60U);
  EXPECT_LE(store_.keys("chunks/").size(), needed_chunks().size() + 4);
}

TEST_F(UpkeepTest, RemovesNothingOnceAnotherWriterHasTakenOver) {
  live(10 * kDayHours);
  const Epoch next = test::make_epoch(2, builder_.last(), /*fresh=*/false);
  ASSERT_TRUE(claim_epoch(store_, next).ok());
  store_.forget_requests();
  live(10 * kDayHours);
  EXPECT_EQ(store_.count(Call::kRemove, "snapshots/"), 0U);
  EXPECT_EQ(store_.count(Call::kRemove, "chunks/"), 0U);
}

// A first upload that goes on for days has chunks that no snapshot names yet.
TEST_F(UpkeepTest, RemovesNoChunkBeforeTheWriterHasASnapshot) {
  const Epoch next = test::make_epoch(2, builder_.last(), /*fresh=*/true);
  ASSERT_TRUE(claim_epoch(store_, next).ok());
  store_.set_object("chunks/ab/abcd.chunk", Bytes(10, 1));
  store_.set_time("chunks/ab/abcd.chunk", now_ns());
  clock_.advance_ms(5000 * 24);
  live(3 * kDayHours);
  EXPECT_EQ(store_.count(Call::kRemove, "chunks/"), 0U);
  EXPECT_EQ(store_.count(Call::kRemove, "snapshots/"), 0U);
}

// It leads to points that nobody builds on; older ones are still what the newest points need.
TEST_F(UpkeepTest, TakesNoSnapshotOfAReplacedWriterForTheOldestThatIsNeeded) {
  live(2 * kDayHours);
  const Position parent = builder_.last();
  for (int i = 0; i < 3; ++i) pass_hour();
  SnapshotWriter writer(store_, scratch_.path(), stopping_);
  const auto routed = make_restore_plan(store_, {});
  ASSERT_TRUE(routed.ok());
  const auto late = writer.write(*routed);
  ASSERT_TRUE(late.ok());
  // The next writer goes on from before these points, with the same content at other positions.
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, parent, /*fresh=*/false)).ok());
  begin();
  Position last = parent;
  for (uint64_t hour = 0; hour < 16 * kDayHours; ++hour) {
    last = Position::of(2, last.sequence() + 1);
    pass_hour_with(last);
    ASSERT_TRUE(work().ok());
    if (hour < kKeptHours || hour % 12 != 0) continue;
    // The oldest point that is promised.
    RestoreTarget target;
    target.position = Position::of(2, last.sequence() - kKeptHours + 1);
    const auto plan = make_restore_plan(store_, target);
    ASSERT_TRUE(plan.ok()) << hour << ": " << plan.error().message;
  }
  EXPECT_THAT(store_.keys("snapshots/"),
              ::testing::Not(::testing::Contains(snapshot_key(late->range))));
}

// The points before a first upload that began anew are as good as others.
TEST_F(UpkeepTest, KeepsThePointsOfTheEpochBeforeAFreshOne) {
  live(3 * kDayHours);
  const Position parent = builder_.last();
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, parent, /*fresh=*/true)).ok());
  Snapshot snapshot;
  const Position first = Position::of(2, parent.sequence() + 1);
  snapshot.range = {first, first};
  snapshot.time_ns = now_ns();
  SnapshotFile root;
  root.id = kRootId;
  root.attributes = builder_.state(parent).files.at(kRootId).attributes;
  snapshot.files.push_back(root);
  store_.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  store_.set_time(snapshot_key(snapshot.range), now_ns());
  begin();
  for (Position last = first; last.sequence() < first.sequence() + 3 * kDayHours;) {
    last = last.next();
    pass_hour_with(last);
    ASSERT_TRUE(work().ok());
  }
  EXPECT_GE(store_.keys("snapshots/").size(), 4U);
  expect_point(Position::of(1, 2));
  expect_point(parent);
}

TEST_F(UpkeepTest, WritesASnapshotEarlierIfTheLogGrows) {
  UpkeepPolicy chosen = year_policy();
  chosen.snapshots.interval_ns = 10'000 * kHour;
  chosen.snapshots.log_size_min = 1;
  begin(chosen);
  live(2 * kDayHours);
  EXPECT_GE(store_.keys("snapshots/").size(), 2U);
}

}  // namespace
}  // namespace walfs
