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

TEST(OldestNeeded, IsTheNewestSnapshotFromBeforeTheRetention) {
  const auto snapshots = taken_days_ago({30, 20, 10, 8, 6, 5, 1, 0});
  EXPECT_EQ(oldest_needed(snapshots, kNow, kNow, {}), 3U);
}

TEST(OldestNeeded, KeepsEverythingWhileNothingIsOldEnough) {
  EXPECT_EQ(oldest_needed(taken_days_ago({7, 6, 5, 4}), kNow, kNow, {}), std::nullopt)
      << "the time of grace";
  EXPECT_EQ(oldest_needed({}, kNow, kNow, {}), std::nullopt);
}

TEST(OldestNeeded, KeepsEverythingForever) {
  RetentionPolicy policy;
  policy.keep_ns = 0;
  EXPECT_EQ(oldest_needed(taken_days_ago({300, 200, 100, 50, 20}), kNow, kNow, policy),
            std::nullopt);
}

TEST(OldestNeeded, KeepsTheNewestFewWhateverTheClockSays) {
  const auto snapshots = taken_days_ago({6, 5, 4, 3, 2, 1});
  EXPECT_EQ(oldest_needed(snapshots, kNow + 365 * kDay, 0, {}), 3U);
  EXPECT_EQ(oldest_needed(taken_days_ago({2, 1}), kNow + 365 * kDay, 0, {}), std::nullopt);
}

TEST(OldestNeeded, DoesNotBelieveAClockThatTheStoresContradicts) {
  const auto snapshots = taken_days_ago({6, 5, 4, 3, 2, 1});
  EXPECT_EQ(oldest_needed(snapshots, kNow + 365 * kDay, kNow, {}), std::nullopt);
}

TEST(OldestNeeded, KeepsEverythingIfTheClockWentBack) {
  const auto snapshots = taken_days_ago({30, 20, 10, 8, 6, 5, 1, 0});
  EXPECT_EQ(oldest_needed(snapshots, kNow - 300 * kDay, kNow, {}), std::nullopt);
}

TEST(OldestNeeded, MayBeTheFirst) {
  EXPECT_EQ(oldest_needed(taken_days_ago({8, 5, 4, 3}), kNow, kNow, {}), 0U);
}

}  // namespace
}  // namespace walfs
