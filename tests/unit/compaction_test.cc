#include "replicator/compaction.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace walfs {
namespace {

constexpr int64_t kSecond = kNsPerSecond;

Position at(uint64_t sequence, uint64_t epoch = 1) {
  return Position::of(epoch, sequence);
}

LogPiece piece(uint64_t first, uint64_t last, int64_t came_s, unsigned level = 0,
               uint64_t size = 1000) {
  return {{{at(first), at(last)}, size, level}, came_s * kSecond};
}

// One in each second from `first` on.
std::vector<LogPiece> pieces(uint64_t first, uint64_t last) {
  std::vector<LogPiece> made;
  for (uint64_t i = first; i <= last; ++i) made.push_back(piece(i, i, static_cast<int64_t>(i)));
  return made;
}

class Plan : public ::testing::Test {
 protected:
  std::optional<Compaction> plan(const std::vector<LogPiece>& all, int64_t now_s) {
    return plan_compaction(all, borders_, policy_, now_s * kSecond);
  }
  CompactionPolicy policy_;
  std::set<Position> borders_;
};

using CompactionPlan = Plan;

TEST_F(CompactionPlan, PutsTogetherWhatCameWithinAWindowOnceThatIsOver) {
  const auto all = pieces(300, 345);
  EXPECT_FALSE(plan(all, 329));
  const auto due = plan(all, 346);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->level, 1U);
  EXPECT_EQ(due->range(), (PositionRange{at(300), at(329)}));
}

TEST_F(CompactionPlan, LeavesAFewSegmentsForAHigherLevel) {
  const auto few = pieces(300, 306);
  EXPECT_FALSE(plan(few, 598));
  const auto due = plan(few, 600);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->level, 2U);
  EXPECT_FALSE(plan({piece(300, 300, 300)}, 100000)) << "of one there is nothing to make";
}

TEST_F(CompactionPlan, TakesTheHighestLevelOfWhatIsOld) {
  const auto due = plan(pieces(3600, 3700), 7200);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->level, 3U);
  EXPECT_EQ(due->pieces.size(), 101U);
}

TEST_F(CompactionPlan, PutsLevelsTogetherAndNothingTwice) {
  std::vector<LogPiece> all = {piece(1, 30, 3630, 1), piece(31, 60, 3660, 1),
                               piece(61, 90, 3690, 1), piece(91, 91, 3700)};
  const auto due = plan(all, 3900);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->level, 2U);
  EXPECT_EQ(due->range(), (PositionRange{at(1), at(91)}));
  EXPECT_FALSE(plan({piece(1, 91, 3700, 2), piece(92, 92, 3901)}, 7199));
  EXPECT_FALSE(plan({piece(1, 91, 3700, 3)}, 100000));
}

TEST_F(CompactionPlan, MakesNoSegmentAcrossAGapAnEpochOrABorder) {
  auto gap = pieces(300, 310);
  gap.erase(gap.begin() + 5);
  for (const auto& due = plan(gap, 3600); due;) {
    EXPECT_EQ(due->range().last, at(304));
    break;
  }
  std::vector<LogPiece> epochs = pieces(300, 304);
  for (uint64_t i = 305; i < 312; ++i)
    epochs.push_back({{{at(i, 2), at(i, 2)}, 1000, 0}, static_cast<int64_t>(i) * kSecond});
  EXPECT_EQ(plan(epochs, 3600)->range(), (PositionRange{at(300), at(304)}));
  borders_ = {at(301)};
  EXPECT_EQ(plan(epochs, 3600)->range(), (PositionRange{at(300), at(301)}));
}

TEST_F(CompactionPlan, MakesNoSegmentThatIsTooLarge) {
  policy_.size_max = 10000;
  const auto due = plan(pieces(300, 329), 3600);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->pieces.size(), 10U);
}

// Whatever comes and when: in the end few segments are left, and each position is in one.
// A gigabyte that is loaded at once is uploaded once.
TEST_F(CompactionPlan, LeavesWhatIsLargeAlready) {
  policy_.size_enough = 5000;
  std::vector<LogPiece> all = pieces(300, 328);
  all[10].segment.size = 5000;
  const auto due = plan(all, 346);
  ASSERT_TRUE(due);
  EXPECT_EQ(due->range(), (PositionRange{at(300), at(309)}));
  for (LogPiece& one : all) one.segment.size = 5000;
  EXPECT_FALSE(plan(all, 100000));
}

TEST_F(CompactionPlan, EndsWithFewSegmentsThatHaveEverything) {
  EXPECT_TRUE(rc::check([this] {
    std::vector<LogPiece> all;
    int64_t now_s = 0;
    uint64_t next = 1;
    for (const int pause : *rc::gen::container<std::vector<int>>(300, rc::gen::inRange(1, 90))) {
      now_s += pause;
      const uint64_t last = next + static_cast<uint64_t>(pause % 4);
      all.push_back(piece(next, last, now_s));
      next = last + 1;
      for (int steps = 0; const auto due = plan(all, now_s); ++steps) {
        RC_ASSERT(steps < 1000);
        const auto first = std::find_if(all.begin(), all.end(), [&](const LogPiece& one) {
          return one.segment.range.first == due->range().first;
        });
        const LogPiece joined{{due->range(), 1000 * due->pieces.size(), due->level},
                              due->pieces.back().came_ns};
        all.erase(first + 1, first + static_cast<std::ptrdiff_t>(due->pieces.size()));
        *first = joined;
      }
    }
    uint64_t expected = 1;
    for (const LogPiece& one : all) {
      RC_ASSERT(one.segment.range.first == at(expected));
      expected = one.segment.range.last.sequence() + 1;
    }
    RC_ASSERT(expected == next);
    // Of each hour one, and of the last one those of its windows: at most 11 of five minutes with
    // three left over each, and nine times seven.
    RC_ASSERT(all.size() <= static_cast<size_t>(now_s / 3600 + 1) + 11 * 3 + 10 * 7 + 30);
  }));
}

}  // namespace
}  // namespace walfs
