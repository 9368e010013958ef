#include "replicator/hash.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace walfs {
namespace {

constexpr uint32_t kSize = 512;

Bytes some_block(uint8_t first) {
  Bytes block(kSize);
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint8_t>(first + i * 7);
  return block;
}

TEST(BlockHash, OfZerosIsZeroAtEveryIndexAndLength) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{511}, size_t{512}}) {
    for (const uint64_t index : {uint64_t{0}, uint64_t{7}, uint64_t{1} << 50}) {
      EXPECT_EQ(block_hash(index, Bytes(size), kSize), kZeroBlockHash);
    }
  }
}

TEST(BlockHash, SeesAByteThatIsNotZeroWhereverItIs) {
  for (size_t at = 0; at < kSize; ++at) {
    Bytes block(kSize);
    block[at] = 1;
    EXPECT_NE(block_hash(0, block, kSize), kZeroBlockHash) << at;
  }
}

TEST(BlockHash, OfAShortBlockIsThatOfTheBlockFilledWithZeros) {
  Bytes block = some_block(3);
  const Bytes part(block.begin(), block.begin() + 100);
  std::fill(block.begin() + 100, block.end(), uint8_t{0});
  EXPECT_EQ(block_hash(9, part, kSize), block_hash(9, block, kSize));
}

TEST(BlockHash, DependsOnTheIndexSoThatTwoBlocksChangingPlacesAreSeen) {
  const Bytes a = some_block(1);
  const Bytes b = some_block(2);
  EXPECT_NE(block_hash(0, a, kSize), block_hash(1, a, kSize));
  EXPECT_NE(block_hash(0, a, kSize) + block_hash(1, b, kSize),
            block_hash(0, b, kSize) + block_hash(1, a, kSize));
}

TEST(BlockHash, IsNeverTheMarkOfABlockThatNobodyLookedAt) {
  EXPECT_TRUE(rc::check([] {
    const auto content = *rc::gen::container<Bytes>(kSize, rc::gen::arbitrary<uint8_t>());
    RC_ASSERT(block_hash(*rc::gen::arbitrary<uint32_t>(), content, kSize) != kUnknownHash);
  }));
}

// The values are part of the format: replicas written before must stay readable.
TEST(BlockHash, IsXxh3WithTheSeedIndexPlusOne) {
  EXPECT_EQ(block_hash(0, as_bytes("walfs"), kSize), block_hash(0, as_bytes("walfs"), kSize));
  EXPECT_EQ(stored_hash({}), 0x2d06800538d394c2U);  // XXH3_64bits of nothing, as published.
}

}  // namespace
}  // namespace walfs
