#include "replicator/stores/request_rate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace walfs {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

// Requests come at random times, now and then many at once.
std::vector<int64_t> run(unsigned per_second, unsigned seed, int64_t mean_pause_ns) {
  RequestRate rate(per_second);
  std::minstd_rand random(seed);
  std::vector<int64_t> begins;
  int64_t now = 5 * kSecond;
  for (int i = 0; i < 2000; ++i) {
    if (random() % 4 == 0) now += static_cast<int64_t>(random()) % (8 * mean_pause_ns);
    begins.push_back(rate.reserve(now));
    EXPECT_GE(begins.back(), now);
  }
  return begins;
}

TEST(RequestRate, IsKeptInEverySecondHoweverRequestsCome) {
  for (const unsigned per_second : {1U, 2U, 7U, 50U}) {
    for (unsigned seed = 1; seed <= 5; ++seed) {
      const auto begins = run(per_second, seed, 10 * kMs);
      ASSERT_TRUE(std::is_sorted(begins.begin(), begins.end()));
      for (size_t i = per_second; i < begins.size(); ++i)
        ASSERT_GE(begins[i] - begins[i - per_second], kSecond) << per_second << " " << i;
    }
  }
}

TEST(RequestRate, DelaysNobodyBelowIt) {
  RequestRate rate(10);
  for (int64_t now = 0; now < 100 * kSecond; now += 100 * kMs) EXPECT_EQ(rate.reserve(now), now);
}

TEST(RequestRate, LetsAsManyGoAtOnceAsASecondMayHave) {
  RequestRate rate(3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rate.reserve(kSecond), kSecond);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rate.reserve(kSecond + 1), 2 * kSecond);
  EXPECT_EQ(rate.reserve(kSecond + 2), 3 * kSecond);
}

TEST(RequestRate, OfZeroIsNoLimit) {
  RequestRate rate(0);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(rate.reserve(7), 7);
}

}  // namespace
}  // namespace walfs
