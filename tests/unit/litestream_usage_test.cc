// The model of what Litestream asks for, against what its users have counted and its sources say.
#include "tests/support/litestream_usage.h"

#include <gtest/gtest.h>

namespace walfs::test {
namespace {

constexpr int64_t kHourS = 3600;
constexpr int64_t kDayS = 24 * kHourS;
constexpr int64_t kMidnight = 20'000 * kDayS;  // Since 1970.

struct Replicated {
  UsageMeter meter{kMidnight * kNsPerSecond, kLitestreamPartSize};
  int64_t second = kMidnight;

  // A commit of one page in every `period` seconds; 0: none.
  template <typename Litestream>
  Usage pass(Litestream& litestream, int64_t seconds, int64_t period) {
    const Usage before = meter.usage();
    for (const int64_t end = second + seconds; second < end;) {
      ++second;
      std::vector<WrittenPage> pages;
      if (period != 0 && second % period == 0) pages.push_back({1, Bytes(4096, 7)});
      litestream.pass(second, pages);
    }
    Usage passed = meter.usage();
    passed.puts -= before.puts;
    passed.lists -= before.lists;
    passed.gets -= before.gets;
    return passed;
  }
};

struct ReplicatedWal : Replicated {
  LitestreamWal litestream{meter, [] { return Bytes(40960, 1); }, kMidnight};
};
struct ReplicatedLtx : Replicated {
  LitestreamLtx litestream{meter, [] { return std::vector<uint64_t>(10, 100); }, kMidnight};
};

TEST(LitestreamUsage, OfAnIdleDatabaseIsFiveListsAnHourInVersion03) {
  ReplicatedWal replicated;
  EXPECT_EQ(replicated.pass(replicated.litestream, kHourS, 0).lists, 5U);
}

// As was reported of an idle database.
TEST(LitestreamUsage, OfAnIdleDatabaseIs480ListsAnHourInVersion05) {
  ReplicatedLtx replicated;
  replicated.pass(replicated.litestream, kHourS, 0);
  const Usage hour = replicated.pass(replicated.litestream, kHourS, 0);
  EXPECT_EQ(hour.lists, 480U);
  EXPECT_EQ(hour.puts, 0U);
}

TEST(LitestreamUsage, OfACommitASecondIsAPutForEachAndOneForEachCheckpointInVersion03) {
  ReplicatedWal replicated;
  EXPECT_EQ(replicated.pass(replicated.litestream, kHourS, 1).puts, 3600U + 60);
}

TEST(LitestreamUsage, OfACommitASecondIsAPutForEachAndThoseOfTheLevelsInVersion05) {
  ReplicatedLtx replicated;
  replicated.pass(replicated.litestream, kHourS, 1);
  const Usage hour = replicated.pass(replicated.litestream, kHourS, 1);
  EXPECT_EQ(hour.puts, 3600U + 60 + 120 + 12 + 1);
  EXPECT_EQ(hour.gets, 120U + 12) << "files of levels 1 and 2";
}

TEST(LitestreamUsage, OfVersion03BeginsAnewWithASnapshotEvery25Hours) {
  ReplicatedWal replicated;
  EXPECT_EQ(replicated.pass(replicated.litestream, 25 * kHourS - 1, 60).objects, 2999U);
  EXPECT_EQ(replicated.pass(replicated.litestream, 1, 60).objects, 1U);
}

TEST(LitestreamUsage, OfVersion05DoesNotGrowFromDayToDay) {
  ReplicatedLtx replicated;
  const uint64_t first = replicated.pass(replicated.litestream, 2 * kDayS, 60).objects_max;
  EXPECT_LE(first, 1440U + 288 + 24 + 20);
  EXPECT_EQ(replicated.pass(replicated.litestream, 2 * kDayS, 60).objects_max, first);
}

TEST(LitestreamUsage, HasARequestForEachPartOfALargeUpload) {
  UsageMeter meter(0, kLitestreamPartSize);
  meter.put(0, kLitestreamPartSize);
  EXPECT_EQ(meter.usage().puts, 1U);
  meter.put(0, 2 * kLitestreamPartSize + 1);
  EXPECT_EQ(meter.usage().puts, 1U + 5);
}

TEST(LitestreamUsage, CountsBytesForAsLongAsTheyAreStored) {
  UsageMeter meter(0, kLitestreamPartSize);
  meter.put(kMonthNs, uint64_t{4} << 30);
  meter.remove(kMonthNs + kMonthNs / 2, uint64_t{4} << 30);
  meter.pass_to(10 * kMonthNs);
  EXPECT_NEAR(gib_months(meter.usage()), 2, 1e-6);
  EXPECT_NEAR(cost_of_storage(meter.usage(), {}), 0.046, 1e-6);
}

}  // namespace
}  // namespace walfs::test
