// A year of a quiet and of a busy volume (scripts/bench-year): prints what S3 would charge for it,
// and fails if a promised point is not restored as it was, or if objects become more and more.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/support/simulated_year.h"

namespace walfs::test {
namespace {

constexpr int64_t kDaySeconds = kDayNs / kNsPerSecond;

int64_t days_of_a_year() {
  const char* text = std::getenv("WALFS_BENCH_DAYS");
  return text == nullptr ? 365 : std::atoll(text);
}

void print_heading() {
  std::printf("%-15s %7s %7s %8s %9s %8s %9s %8s %11s %10s %9s\n", "in a month", "objects", "most",
              "GiB", "PUT", "LIST", "GET+HEAD", "DELETE", "requests $", "storage $", "total $");
}

void print_usage(const char* name, const Usage& usage, int64_t days) {
  const double months = static_cast<double>(days * kDayNs) / static_cast<double>(kMonthNs);
  const auto monthly = [&](uint64_t count) { return static_cast<double>(count) / months; };
  const double requests = cost_of_requests(usage, {}) / months;
  const double storage = cost_of_storage(usage, {}) / months;
  std::printf("%-15s %7s %7s %8.3f %9.0f %8.0f %9.0f %8.0f %11.4f %10.4f %9.4f\n", name,
              std::to_string(usage.objects).c_str(), std::to_string(usage.objects_max).c_str(),
              gib_months(usage) / months, monthly(usage.puts), monthly(usage.lists),
              monthly(usage.gets), monthly(usage.deletes), requests, storage, requests + storage);
}

void pass_year(const char* name, std::vector<WorkloadFile> files) {
  spdlog::set_level(spdlog::level::warn);
  SimulatedYear year(std::move(files));
  const int64_t days = days_of_a_year();
  for (int64_t day = 0; day < days && !testing::Test::HasFailure(); ++day) {
    // Each day is looked at in another hour.
    const int64_t before = day * 7 % 24 * 3600;
    for (const int64_t seconds : {before, kDaySeconds - before}) {
      const Status passed = year.volume().pass_seconds(seconds);
      ASSERT_TRUE(passed.ok()) << passed.error().message;
      if (seconds == before) year.expect_promises();
    }
    year.expect_bounded();
    if (day % 30 == 29)
      std::fprintf(stderr, "%s: %s days\n", name, std::to_string(day + 1).c_str());
  }
  std::printf("%s: %s days, %s commits, %s uploads, %s points restored\n", name,
              std::to_string(days).c_str(), std::to_string(year.volume().last().sequence()).c_str(),
              std::to_string(year.volume().uploads()).c_str(),
              std::to_string(year.restored()).c_str());
  print_heading();
  print_usage("walfs", year.walfs(), days);
  print_usage("Litestream 0.3", year.litestream_wal(), days);
  print_usage("Litestream 0.5", year.litestream_ltx(), days);
  std::printf(
      "walfs, PUT of segments: %s by the uploader, %s by compaction, %s by thinning\n",
      std::to_string(year.volume().store().puts("log/0")).c_str(),
      std::to_string(year.volume().store().puts("log/1") + year.volume().store().puts("log/2") +
                     year.volume().store().puts("log/3"))
          .c_str(),
      std::to_string(year.volume().store().puts("log/4")).c_str());
}

TEST(Year, OfAQuietVolume) {
  pass_year("quiet", quiet_files());
}

TEST(Year, OfABusyVolume) {
  pass_year("busy", busy_files());
}

}  // namespace
}  // namespace walfs::test
