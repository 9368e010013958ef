#include "replicator/time.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace walfs {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(Time, IsWrittenInUtcWithMilliseconds) {
  EXPECT_EQ(format_time(1'772'368'205 * kSecond + 250'999'999), "2026-03-01T12:30:05.250Z");
  EXPECT_EQ(format_time(0), "1970-01-01T00:00:00.000Z");
}

TEST(Time, BeforeTheEpochIsWrittenRightToo) {
  EXPECT_EQ(format_time(-kSecond / 2), "1969-12-31T23:59:59.500Z");
}

TEST(Time, IsReadWithZOrAnOffsetFromUtc) {
  const int64_t noon = 1'772'368'205 * kSecond;
  EXPECT_EQ(parse_time("2026-03-01T12:30:05Z"), noon);
  EXPECT_EQ(parse_time("2026-03-01t12:30:05z"), noon);
  EXPECT_EQ(parse_time("2026-03-01 12:30:05Z"), noon);
  EXPECT_EQ(parse_time("2026-03-01T14:00:05+01:30"), noon);
  EXPECT_EQ(parse_time("2026-03-01T07:30:05-05:00"), noon);
}

TEST(Time, IsReadWithAnyFractionOfASecond) {
  const int64_t noon = 1'772'368'205 * kSecond;
  EXPECT_EQ(parse_time("2026-03-01T12:30:05.25Z"), noon + kSecond / 4);
  EXPECT_EQ(parse_time("2026-03-01T12:30:05.000000001Z"), noon + 1);
  EXPECT_EQ(parse_time("2026-03-01T12:30:05.0000000019999Z"), noon + 1);
}

TEST(Time, IsReadFromNothingElse) {
  for (const char* text :
       {"", "2026", "2026-03-01", "2026-03-01T12:30Z", "2026-03-01T12:30:05", "2026-3-1T12:30:05Z",
        "2026-03-01T12:30:05.Z", "2026-03-01T12:30:05Zx", "2026-03-01T12:30:05+0130",
        "2026-03-01T12:30:05+24:00", "2026-13-01T12:30:05Z", "2026-00-01T12:30:05Z",
        "2026-02-31T12:30:05Z", "2026-02-00T12:30:05Z", "2026-03-01T24:30:05Z",
        "2026-03-01T12:60:05Z", "2026-03-01T12:30:61Z", "1969-03-01T12:30:05Z", "yesterday"}) {
    EXPECT_FALSE(parse_time(text)) << text;
  }
}

TEST(Time, ThatDoesNotFitIntoNanosecondsIsRefused) {
  EXPECT_FALSE(parse_time("9999-12-31T23:59:59Z"));
  EXPECT_TRUE(parse_time("2261-12-31T23:59:59Z"));
}

TEST(Time, MayBeSomeTimeAgo) {
  constexpr int64_t kNow = 1'700'000'000'000'000'000;
  const auto ago = [](int64_t seconds) { return kNow - seconds * 1'000'000'000; };
  EXPECT_EQ(parse_time_ago("10 minutes ago", kNow), ago(600));
  EXPECT_EQ(parse_time_ago("1 second ago", kNow), ago(1));
  EXPECT_EQ(parse_time_ago("0 hours ago", kNow), kNow);
  EXPECT_EQ(parse_time_ago("3 hours ago", kNow), ago(3 * 3600));
  EXPECT_EQ(parse_time_ago("1 day ago", kNow), ago(86400));
  EXPECT_EQ(parse_time_ago("2 weeks ago", kNow), ago(14 * 86400));
  for (const char* text :
       {"", "ago", " ago", "minutes ago", "10 ago", "10 minutes", "10 minutes agoo", "-1 days ago",
        "1.5 days ago", "10  minutes ago", "10 min ago", "x days ago", "1 days  ago",
        "99999999999999999999 days ago", "99999 weeks ago", "1 minutess ago"})
    EXPECT_FALSE(parse_time_ago(text, kNow)) << text;
}

TEST(Time, KnowsLeapYears) {
  EXPECT_TRUE(parse_time("2024-02-29T00:00:00Z"));
  EXPECT_FALSE(parse_time("2025-02-29T00:00:00Z"));
}

TEST(Time, AsWrittenIsReadBackToTheMillisecond) {
  EXPECT_TRUE(rc::check([] {
    const int64_t ms = *rc::gen::inRange<int64_t>(0, 9'000'000'000'000);
    RC_ASSERT(parse_time(format_time(ms * 1'000'000)) == ms * 1'000'000);
  }));
}

}  // namespace
}  // namespace walfs
