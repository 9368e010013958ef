#include "replicator/outage.h"

#include <gtest/gtest.h>

namespace walfs {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHour = 3600 * kSecond;

Error error(const std::string& message) {
  return {Errc::kRetry, message};
}

TEST(Outage, IsToldOfOnceAndEndsWithItsDurationAndWhatIsLeft) {
  Outage outage("uploads to X");
  EXPECT_EQ(outage.failed(error("503 SlowDown"), 0),
            "uploads to X fail, trying again until they work: 503 SlowDown");
  for (int64_t now = kSecond; now < 3 * kHour; now += kSecond)
    ASSERT_EQ(outage.failed(error("503 SlowDown"), now), std::nullopt);
  EXPECT_EQ(outage.since_ns(), 0);
  EXPECT_EQ(outage.succeeded("12 segments wait", 3 * kHour + 5 * 60 * kSecond),
            "uploads to X work again after 3 h 5 min; 12 segments wait");
  EXPECT_EQ(outage.since_ns(), std::nullopt);
  EXPECT_EQ(outage.succeeded("", 4 * kHour), std::nullopt);
}

TEST(Outage, IsToldOfAgainWhenItsKindChanges) {
  Outage outage("uploads to X");
  EXPECT_TRUE(outage.failed(error("503"), 0));
  EXPECT_EQ(outage.failed(error("reset"), kSecond), "uploads to X still fail: reset");
  EXPECT_FALSE(outage.failed(error("reset"), 2 * kSecond));
}

TEST(Outage, IsNotToldOfEachTimeWhenItsKindsAlternate) {
  Outage outage("uploads to X");
  int lines = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string kind =
        i % 2 == 0 ? "503" : "no answer in time, after 3000" + std::to_string(i) + " ms at port 80";
    lines += outage.failed(error(kind), i * kSecond) ? 1 : 0;
  }
  EXPECT_EQ(lines, 2);
}

TEST(Outage, HasFewLinesEvenWhenEveryMessageIsNew) {
  Outage outage("uploads to X");
  int lines = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string letters(static_cast<size_t>(i % 500), 'x');
    lines += outage.failed(error(letters), i * kSecond) ? 1 : 0;
  }
  EXPECT_EQ(lines, 8);
}

// A store that refuses every second request.
TEST(Outage, ThatComesAndGoesIsToldOfOnce) {
  Outage outage("uploads to X");
  int lines = 0;
  for (int i = 0; i < 10000; ++i) {
    lines += outage.failed(error("503"), 2 * i * kSecond) ? 1 : 0;
    lines += outage.succeeded("", (2 * i + 1) * kSecond) ? 1 : 0;
  }
  EXPECT_EQ(lines, 2);
}

TEST(Outage, ThatFollowsAnotherCloselyIsToldOfWhenItLasts) {
  Outage outage("uploads to X");
  EXPECT_TRUE(outage.failed(error("503"), 0));
  EXPECT_TRUE(outage.succeeded("", kSecond));
  int lines = 0;
  for (int64_t now = 2 * kSecond; now < kHour; now += kSecond)
    lines += outage.failed(error("503"), now) ? 1 : 0;
  EXPECT_EQ(lines, 1);
  EXPECT_TRUE(outage.succeeded("", kHour));
}

TEST(Outage, ThatComesLaterIsANewOne) {
  Outage outage("uploads to X");
  EXPECT_TRUE(outage.failed(error("503"), 0));
  EXPECT_TRUE(outage.succeeded("", kSecond));
  EXPECT_TRUE(outage.failed(error("503"), kHour));
}

TEST(Outage, DurationsAreReadable) {
  EXPECT_EQ(describe_duration(400'000'000), "400 ms");
  EXPECT_EQ(describe_duration(12 * kSecond), "12 s");
  EXPECT_EQ(describe_duration(50 * 60 * kSecond), "50 min");
  EXPECT_EQ(describe_duration(27 * kHour + 61 * kSecond), "27 h 1 min");
}

}  // namespace
}  // namespace walfs
