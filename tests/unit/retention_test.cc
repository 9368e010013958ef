#include "replicator/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/memory_store.h"

namespace walfs {
namespace {

constexpr int64_t kHour = RetentionPolicy::kHour;
constexpr int64_t kDay = 24 * kHour;
constexpr int64_t kNow = 400 * kDay;

// One for each number of days before now; of the store's clock, too.
std::vector<TimedSnapshot> taken_days_ago(const std::vector<int64_t>& days) {
  std::vector<TimedSnapshot> snapshots;
  for (const int64_t ago : days) {
    TimedSnapshot snapshot;
    const Position position = Position::of(1, snapshots.size() + 1);
    snapshot.object.range = {position, position};
    snapshot.time_ns = snapshot.object.modified_ns = kNow - ago * kDay;
    snapshots.push_back(snapshot);
  }
  return snapshots;
}

TEST(OldestKept, IsTheNewestSnapshotFromBeforeTheRetention) {
  const auto snapshots = taken_days_ago({30, 20, 10, 8, 6, 5, 1, 0});
  EXPECT_EQ(oldest_kept(snapshots, kNow, kNow, {}), 3U);
}

TEST(OldestKept, KeepsEverythingWhileNothingIsOldEnough) {
  EXPECT_EQ(oldest_kept(taken_days_ago({7, 6, 5, 4}), kNow, kNow, {}), 0U) << "the time of grace";
  EXPECT_EQ(oldest_kept({}, kNow, kNow, {}), 0U);
}

TEST(OldestKept, KeepsEverythingForever) {
  RetentionPolicy policy;
  policy.keep_ns = 0;
  EXPECT_EQ(oldest_kept(taken_days_ago({300, 200, 100, 50, 20}), kNow, kNow, policy), 0U);
}

TEST(OldestKept, KeepsTheNewestFewWhateverTheClockSays) {
  const auto snapshots = taken_days_ago({6, 5, 4, 3, 2, 1});
  EXPECT_EQ(oldest_kept(snapshots, kNow + 365 * kDay, 0, {}), 3U);
  EXPECT_EQ(oldest_kept(taken_days_ago({2, 1}), kNow + 365 * kDay, 0, {}), 0U);
}

TEST(OldestKept, DoesNotBelieveAClockThatTheStoresContradicts) {
  const auto snapshots = taken_days_ago({6, 5, 4, 3, 2, 1});
  EXPECT_EQ(oldest_kept(snapshots, kNow + 365 * kDay, kNow, {}), 0U);
}

TEST(OldestKept, KeepsEverythingIfTheClockWentBack) {
  const auto snapshots = taken_days_ago({30, 20, 10, 8, 6, 5, 1, 0});
  EXPECT_EQ(oldest_kept(snapshots, kNow - 300 * kDay, kNow, {}), 0U);
}

}  // namespace
}  // namespace walfs
