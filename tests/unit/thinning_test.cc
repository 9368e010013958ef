// Of what is older than a day one point of each hour stays. (An hour takes a second here, and these
// hours have a point each: of six hours one stays.)
#include "replicator/follow.h"
#include "tests/support/long_lived_replica.h"

namespace walfs {
namespace {

using test::kDayHours;
using test::kHour;
using ::testing::IsEmpty;

constexpr uint64_t kWindowHours = 6;

UpkeepPolicy thinning_policy() {
  UpkeepPolicy policy = test::year_policy();
  policy.compaction.thin_window_ns = 2 * kWindowHours * kHour;
  policy.compaction.hour_ns = kWindowHours * kHour;
  policy.compaction.thin_after_ns = kDayHours * kHour;
  return policy;
}

class Thinning : public test::LongLivedReplica {
 protected:
  Thinning() {
    clock_.advance_ms(2000);  // No point is ahead of it.
    begin_thinning();
  }
  // An hour with one segment of so many points, which the builder has.
  void pass_hour_with_segment(uint64_t points) {
    builder_.seal();
    upload({Position{builder_.last().value - points + 1}, builder_.last()});
    const Status worked = work();
    ASSERT_TRUE(worked.ok()) << worked.error().message;
  }
  void begin_thinning() { begin(thinning_policy()); }
  std::vector<HistoryPoint> points() {
    const auto history = read_history(store_);
    EXPECT_TRUE(history.ok()) << history.error().message;
    return history.ok() ? history->points : std::vector<HistoryPoint>();
  }
  // Each point of the last day is there, of what is older by four windows at most one of each, and
  // all lead to what the directory was.
  void expect_thinned() {
    const uint64_t newest = builder_.last().sequence();
    const uint64_t day = newest - kDayHours;
    std::set<uint64_t> found;
    size_t old = 0;
    for (const HistoryPoint& point : points()) {
      found.insert(point.position.sequence());
      old += point.position.sequence() < day - 4 * kWindowHours ? 1 : 0;
      EXPECT_EQ(point.time_ns, test::ReplicaBuilder::time_of(point.position));
      expect_point(point.position);
    }
    for (uint64_t sequence = day; sequence <= newest; ++sequence)
      EXPECT_TRUE(found.contains(sequence)) << sequence << " of " << newest;
    // Snapshots have points of their own.
    const size_t windows = day / kWindowHours + 2 + store_.keys("snapshots/").size();
    EXPECT_LE(old, windows);
    EXPECT_GE(old, std::min(day, test::kKeptHours) / kWindowHours - 5) << "some are promised";
    const auto report = verify_replica(store_);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_THAT(report->damaged, IsEmpty());
    EXPECT_THAT(report->lost, IsEmpty());
    EXPECT_EQ(report->points, found.size());
  }
};

TEST_F(Thinning, LeavesOnePointOfEachHourOfWhatIsOlderThanADay) {
  live(5 * kDayHours);
  expect_thinned();
  EXPECT_LE(store_.keys("log/4/").size(), 5 * kDayHours / kWindowHours);
  EXPECT_GE(store_.keys("log/4/").size(), kDayHours / kWindowHours);
}

// The store's clock knows how old what is.
TEST_F(Thinning, DoesNotNeedAWriterThatLivesForADay) {
  for (int day = 0; day < 10; ++day) {
    live(kDayHours / 2);
    begin_thinning();
  }
  live(kDayHours / 2);
  expect_thinned();
}

TEST_F(Thinning, LosesNoPointThatIsKeptWhereverItDies) {
  live(3 * kDayHours);
  for (int round = 0; round < 40; ++round) {
    const auto call = std::vector{test::Call::kPut, test::Call::kRemove, test::Call::kGet,
                                  test::Call::kList, test::Call::kGetRange}[round % 5];
    for (uint64_t hour = 0; hour < kWindowHours; ++hour) {
      pass_hour();
      store_.fail(call, Errc::kRetry, 1, static_cast<size_t>(round / 5 % 4), "", round % 3 == 0);
      const Status worked = work();
      store_.heal();
      if (!worked.ok() && round % 2 == 0) begin_thinning();
    }
    if (round % 10 == 9) {
      for (const HistoryPoint& point : points()) expect_point(point.position);
    }
  }
  live(3 * kDayHours);
  expect_thinned();
}

TEST_F(Thinning, LeavesEveryPointWhileTheWritersClockSaysThatTheyAreNew) {
  live(kDayHours);
  const size_t before = points().size();
  for (uint64_t hour = 0; hour < 2 * kDayHours; ++hour) {
    // The next points come from a day ahead.
    for (int i = 0; i < 24; ++i) builder_.add();
    pass_hour_with_segment(24);
  }
  EXPECT_GE(points().size(), 2 * kDayHours * 24);
  EXPECT_GE(before, kDayHours);
}

// A partial point leads to no state: what ends with one stays as it is.
TEST_F(Thinning, LeavesWhatEndsWithAPartialPoint) {
  live(kDayHours);
  for (int hour = 0; hour < 40; ++hour) {
    builder_.add();
    builder_.add_partial();
    pass_hour_with_segment(2);
  }
  live(3 * kDayHours);
  for (const HistoryPoint& point : points()) expect_point(point.position);
  const auto report = verify_replica(store_);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_THAT(report->damaged, IsEmpty());
}

// What was damaged in the store does not become right by being written anew, and stays the only
// thing that is lost.
TEST_F(Thinning, TakesNoDamagedBlockForARightOne) {
  live(kDayHours + 2 * kWindowHours);
  const auto segments = store_.keys("log/2/");
  ASSERT_FALSE(segments.empty());
  store_.flip(segments.front(), 40);
  for (uint64_t hour = 0; hour < kDayHours; ++hour) {
    pass_hour();
    static_cast<void>(work().ok());
  }
  EXPECT_TRUE(store_.objects().contains(segments.front()));
  const auto report = verify_replica(store_);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_FALSE(report->damaged.empty());
  expect_point(builder_.last());
}

// Whoever follows and has a point that is gone meanwhile goes on with the next one that is there.
TEST_F(Thinning, IsNoObstacleForWhoeverFollows) {
  live(6);
  const std::string target = scratch_.path("standby");
  ASSERT_TRUE(restore(store_, target, {}).ok());
  auto place = FollowPlace::claim(target);
  ASSERT_TRUE(place.ok()) << place.error().message;
  const Position before = builder_.last();
  auto follower = Follower::start(store_, *place, before);
  ASSERT_TRUE(follower.ok()) << follower.error().message;
  live(4 * kDayHours);
  for (const HistoryPoint& point : points()) ASSERT_NE(point.position, before);
  const auto changed = follower->catch_up(nullptr);
  ASSERT_TRUE(changed.ok()) << changed.error().message;
  EXPECT_EQ(follower->position(), builder_.last());
  expect_tree(builder_.state(builder_.last()), kRootId, target);
}

}  // namespace
}  // namespace walfs
