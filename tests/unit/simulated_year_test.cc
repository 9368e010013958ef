// Ten days of a busy and of a quiet volume with the program's own policies; scripts/bench-year lets
// a year pass, and more commits.
#include "tests/support/simulated_year.h"

namespace walfs::test {
namespace {

constexpr uint64_t kDays = 10;
constexpr int64_t kDaySeconds = kDayNs / kNsPerSecond;

// As the busy one, with fewer commits.
std::vector<WorkloadFile> sparse_files() {
  std::vector<WorkloadFile> files = busy_files();
  for (WorkloadFile& file : files) {
    if (!file.database) continue;
    file.blocks /= 8;
    file.hot_blocks /= 4;
    file.pace = {4, 300, 1800};
  }
  return files;
}

class YearTest : public ::testing::Test {
 protected:
  void pass_days(SimulatedYear& year, uint64_t days) {
    for (uint64_t day = 0; day < days && !HasFailure(); ++day) {
      // Each day is looked at in another hour.
      const int64_t before = static_cast<int64_t>(day) * 7 % 24 * 3600;
      ASSERT_TRUE(year.volume().pass_seconds(before).ok());
      year.expect_promises();
      ASSERT_TRUE(year.volume().pass_seconds(kDaySeconds - before).ok());
      year.expect_bounded();
    }
  }
  // Of ten days: one PUT for each interval with changes, and compaction's share.
  static void expect_few_requests(SimulatedYear& year) {
    MeteredStore& store = year.volume().store();
    const uint64_t uploads = year.volume().uploads();
    EXPECT_EQ(store.puts("log/0"), uploads);
    const CompactionPolicy policy;
    for (unsigned level = 1; level <= policy.levels.size(); ++level) {
      const auto& [window_ns, count_min] = policy.levels[level - 1];
      const uint64_t made = store.puts("log/" + std::to_string(level));
      EXPECT_LE(made, uploads / count_min) << level;
      EXPECT_LE(made, kDays * static_cast<uint64_t>(kDayNs / window_ns)) << level;
    }
    const auto windows = static_cast<uint64_t>(kDayNs / policy.thin_window_ns);
    EXPECT_LE(store.puts("log/" + std::to_string(policy.thinned_level())), kDays * windows);
    EXPECT_LE(store.puts("snapshots"), kDays + 1);
    // After each upload it is asked whether another writer has come; each segment is read by the
    // levels above and, index and content, by thinning and the snapshot.
    EXPECT_LE(year.walfs().gets, uploads * (2 + policy.levels.size()) + kDays * 100);
    EXPECT_LE(year.walfs().lists, kDays * 10);
  }
};

TEST_F(YearTest, OfABusyVolumeKeepsWhatIsPromisedWithFewObjectsAndRequests) {
  SimulatedYear year(sparse_files());
  pass_days(year, kDays);
  EXPECT_GE(year.restored(), 3 * kDays);
  expect_few_requests(year);
}

TEST_F(YearTest, OfAQuietVolumeKeepsWhatIsPromisedWithFewObjectsAndRequests) {
  SimulatedYear year(quiet_files());
  pass_days(year, kDays);
  EXPECT_GE(year.restored(), 3 * kDays);
  expect_few_requests(year);
}

TEST_F(YearTest, AnIdleDayTakesNoRequest) {
  for (const auto& files : {sparse_files(), quiet_files()}) {
    SimulatedYear year(files);
    ASSERT_TRUE(year.volume().pass_seconds(kDaySeconds).ok());
    ASSERT_TRUE(year.volume().rest_seconds(2 * kDaySeconds).ok()) << "what was still to be done";
    const uint64_t before = year.volume().store().requests();
    ASSERT_TRUE(year.volume().rest_seconds(kDaySeconds).ok());
    EXPECT_EQ(year.volume().store().requests(), before);
  }
}

// What a restore is compared with is another state at each point.
TEST_F(YearTest, ItsModelTellsEveryPointFromTheOneBefore) {
  SimulatedYear year(quiet_files());
  ASSERT_TRUE(year.volume().pass_seconds(2 * kDaySeconds).ok());
  const auto contents = [&](Position position) {
    const Model state = year.volume().state_at(position);
    return std::pair(state.files.at(2).content, state.files.at(3).content);
  };
  for (Position position = year.volume().last(); position.sequence() > 1; --position.value)
    EXPECT_TRUE(contents(position) != contents({position.value - 1})) << position.to_string();
  EXPECT_TRUE(contents(year.volume().last()) ==
              std::pair(year.volume().content_of(0), year.volume().content_of(1)));
}

}  // namespace
}  // namespace walfs::test
