#include "replicator/position.h"

#include <gtest/gtest.h>

namespace walfs {
namespace {

TEST(Position, HoldsTheEpochInItsUpper24BitsAndTheSequenceInItsLower40) {
  const Position position = Position::of(0xabcdef, 0x123456789a);
  EXPECT_EQ(position.value, 0xabcdef123456789aU);
  EXPECT_EQ(position.epoch(), 0xabcdefU);
  EXPECT_EQ(position.sequence(), 0x123456789aU);
}

TEST(Position, IsWrittenAsSixteenLowerCaseHexDigits) {
  EXPECT_EQ(Position::of(1, 0xAB).to_string(), "00000100000000ab");
  EXPECT_EQ(Position{}.to_string(), "0000000000000000");
}

TEST(Position, IsReadBackFromItsText) {
  for (const uint64_t value :
       {uint64_t{0}, uint64_t{1}, uint64_t{0x00000100000000ab}, UINT64_MAX}) {
    EXPECT_EQ(Position::parse(Position{value}.to_string()), Position{value});
  }
}

TEST(Position, IsReadFromNothingButSixteenLowerCaseHexDigits) {
  for (const char* text : {"", "0", "00000100000000a", "00000100000000abc", "00000100000000AB",
                           "0x000100000000ab", "00000100000000a ", "-0000100000000ab"}) {
    EXPECT_FALSE(Position::parse(text)) << text;
  }
}

TEST(Position, SortsAsItsTextDoes) {
  const Position earlier = Position::of(1, Position::kSequenceMax);
  const Position later = Position::of(2, 0);
  EXPECT_LT(earlier, later);
  EXPECT_LT(earlier.to_string(), later.to_string());
}

TEST(Position, OfALaterEpochIsBehindAllThatAnEarlierWriterCanProduce) {
  EXPECT_GT(Position::of(2, 5), Position::of(1, Position::kSequenceMax));
  EXPECT_EQ(Position::of(1, 4).next(), Position::of(1, 5));
}

}  // namespace
}  // namespace walfs
