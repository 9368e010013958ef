#include <gtest/gtest.h>

#include "replicator/stores/retry_policy.h"

namespace walfs {
namespace {

constexpr unsigned kBudgetMs = 20000;

TEST(RetryDelay, GrowsItsCeilingUpToTheLimit) {
  for (unsigned tries = 1; tries < 40; ++tries) {
    for (const uint64_t random : {uint64_t{0}, uint64_t{12345}, UINT64_MAX}) {
      const auto delay = retry_delay_ms(tries, random, 0, 0, kBudgetMs);
      ASSERT_TRUE(delay.has_value());
      EXPECT_LE(*delay, kRetryDelayMaxMs);
      EXPECT_TRUE(tries > 1 || *delay <= kRetryDelayBaseMs);
    }
  }
}

TEST(RetryDelay, UsesTheWholeRangeBelowTheCeiling) {
  EXPECT_EQ(retry_delay_ms(3, 0, 0, 0, kBudgetMs), 0U);
  EXPECT_EQ(retry_delay_ms(3, 400, 0, 0, kBudgetMs), 400U);
  EXPECT_EQ(retry_delay_ms(3, 401, 0, 0, kBudgetMs), 0U);
}

TEST(RetryDelay, IsNotShorterThanTheServerAsks) {
  EXPECT_EQ(retry_delay_ms(1, 0, 3000, 0, kBudgetMs), 3000U);
}

TEST(RetryDelay, EndsWithTheBudget) {
  EXPECT_TRUE(retry_delay_ms(1, 0, 0, kBudgetMs - 1, kBudgetMs).has_value());
  EXPECT_FALSE(retry_delay_ms(1, 0, 0, kBudgetMs, kBudgetMs).has_value());
  EXPECT_FALSE(retry_delay_ms(1, 0, 60000, 0, kBudgetMs).has_value());
  EXPECT_FALSE(retry_delay_ms(1, 0, 0, 0, 0).has_value());
}

TEST(RetryAfter, IsSecondsWithinBounds) {
  EXPECT_EQ(parse_retry_after_ms("2"), 2000U);
  EXPECT_EQ(parse_retry_after_ms("0"), 0U);
  EXPECT_EQ(parse_retry_after_ms("999999"), 3600U * 1000);
  for (const char* value : {"", "x", "-1", "1.5", "99999999999", "Fri, 24 May 2013 00:00:00 GMT"}) {
    EXPECT_EQ(parse_retry_after_ms(value), 0U) << value;
  }
}

TEST(HttpDate, IsReadAsUtc) {
  EXPECT_EQ(parse_http_date("Fri, 24 May 2013 00:00:00 GMT"), 1369353600);
  EXPECT_EQ(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
}

TEST(HttpDate, RefusesOtherForms) {
  for (const char* value : {"", "now", "2013-05-24T00:00:00Z", "Fri, 24 Foo 2013 00:00:00 GMT",
                            "Fri, 99 May 2013 00:00:00 GMT", "Fri, 24 May 2013 25:00:00 GMT"}) {
    EXPECT_EQ(parse_http_date(value), std::nullopt) << value;
  }
}

}  // namespace
}  // namespace walfs
