#include "fs/capture/byte_ranges.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace walfs {
namespace {

std::string text_of(const ByteRanges& ranges) {
  std::string text;
  for (const auto& [begin, end] : ranges.ranges())
    text += (text.empty() ? "" : " ") + std::to_string(begin) + "-" + std::to_string(end);
  return text;
}

TEST(ByteRanges, JoinsWhatOverlapsOrTouches) {
  ByteRanges ranges;
  ranges.add(10, 20);
  ranges.add(30, 40);
  ranges.add(20, 25);
  EXPECT_EQ(text_of(ranges), "10-25 30-40");
  ranges.add(24, 31);
  EXPECT_EQ(text_of(ranges), "10-40");
  EXPECT_EQ(ranges.total_bytes(), 30U);
}

TEST(ByteRanges, IgnoresEmptyAndInvertedRanges) {
  ByteRanges ranges;
  ranges.add(5, 5);
  ranges.add(9, 3);
  EXPECT_TRUE(ranges.empty());
  ranges.add(1, 9);
  ranges.remove(4, 4);
  ranges.remove(8, 2);
  EXPECT_EQ(text_of(ranges), "1-9");
  EXPECT_FALSE(ranges.intersects(4, 4));
}

TEST(ByteRanges, ReachesToTheEndOfTheFileAndIsCutByTruncation) {
  ByteRanges ranges;
  ranges.add(100, UINT64_MAX);
  EXPECT_TRUE(ranges.intersects(uint64_t{1} << 62, UINT64_MAX));
  ranges.truncate(150);
  EXPECT_EQ(text_of(ranges), "100-150");
  ranges.truncate(0);
  EXPECT_TRUE(ranges.empty());
  EXPECT_EQ(ranges.total_bytes(), 0U);
}

TEST(ByteRanges, WalksItsBlocksInOrderEachOnce) {
  ByteRanges ranges;
  ranges.add(0, 1);
  ranges.add(4095, 4097);
  ranges.add(10 * 4096, 12 * 4096);
  std::vector<uint64_t> blocks;
  for (auto block = ranges.next_block(0, 4096); block; block = ranges.next_block(*block + 1, 4096))
    blocks.push_back(*block);
  EXPECT_EQ(blocks, (std::vector<uint64_t>{0, 1, 10, 11}));
  EXPECT_FALSE(ranges.next_block(UINT64_MAX, 4096).has_value());
  EXPECT_FALSE(ranges.next_block(0, 0).has_value());
}

TEST(ByteRanges, StaysBoundedAndLosesNoByte) {
  ByteRanges ranges;
  for (uint64_t i = 0; i < 100000; ++i) {
    const uint64_t at = i * 7919 % 100003 * 4096;
    ranges.add(at, at + 100);
    ASSERT_LE(ranges.size(), ByteRanges::kRangesMax);
  }
  uint64_t total = 0;
  for (const auto& [begin, end] : ranges.ranges()) total += end - begin;
  EXPECT_EQ(ranges.total_bytes(), total);
  for (uint64_t i = 0; i < 100000; ++i) {
    const uint64_t at = i * 7919 % 100003 * 4096;
    ASSERT_TRUE(ranges.contains(at) && ranges.contains(at + 99)) << i;
  }
}

TEST(ByteRanges, KeepsWideGapsOpenWhenItCoarsens) {
  ByteRanges ranges;
  for (uint64_t i = 0; i <= ByteRanges::kRangesMax; ++i) ranges.add(i * 10, i * 10 + 5);
  ranges.add(uint64_t{1} << 40, (uint64_t{1} << 40) + 1);
  EXPECT_FALSE(ranges.intersects(1 << 20, uint64_t{1} << 40));
}

// Everything the set says, against a plain set of bytes.
TEST(ByteRanges, AgreesWithASetOfBytesAfterAnyCalls) {
  const bool ok = rc::check("model", [] {
    const auto calls = *rc::gen::container<std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>>(
        rc::gen::arbitrary<std::tuple<uint8_t, uint8_t, uint8_t>>());
    ByteRanges ranges;
    std::set<uint64_t> model;
    for (const auto& [kind, begin, length] : calls) {
      const uint64_t end = uint64_t{begin} + length % 40;
      if (kind % 8 == 7) {
        ranges.truncate(begin);
        model.erase(model.lower_bound(begin), model.end());
      } else if (kind % 3 == 0) {
        ranges.remove(begin, end);
        model.erase(model.lower_bound(begin), model.lower_bound(end));
      } else {
        ranges.add(begin, end);
        for (uint64_t at = begin; at < end; ++at) model.insert(at);
      }
      const bool meets = model.lower_bound(begin) != model.lower_bound(end);
      RC_ASSERT(ranges.intersects(begin, end) == meets);
    }
    RC_ASSERT(ranges.total_bytes() == model.size());
    std::set<uint64_t> bytes;
    std::set<uint64_t> blocks;
    for (const uint64_t at : model) blocks.insert(at / 16);
    std::set<uint64_t> walked;
    for (auto block = ranges.next_block(0, 16); block; block = ranges.next_block(*block + 1, 16))
      walked.insert(*block);
    RC_ASSERT(walked == blocks);
    uint64_t last_end = 0;
    for (const auto& [begin, end] : ranges.ranges()) {
      RC_ASSERT(begin < end);
      RC_ASSERT(bytes.empty() || begin > last_end);
      last_end = end;
      for (uint64_t at = begin; at < end; ++at) bytes.insert(at);
    }
    RC_ASSERT(bytes == model);
  });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace walfs
