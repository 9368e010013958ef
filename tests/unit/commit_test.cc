// Several commits of a file become one change of a point.
#include "fs/tracking/commit.h"

#include <gtest/gtest.h>

#include <cstring>

namespace walfs {
namespace {

constexpr uint32_t kBlock = 512;

Commit commit_of(uint64_t size, const std::vector<uint64_t>& blocks, char letter) {
  Commit commit;
  commit.block_size = kBlock;
  commit.size = size;
  for (const uint64_t index : blocks) {
    auto buffer = CommitBuffer::make(kBlock, {});
    std::memset(buffer->data(), letter, kBlock);
    commit.blocks.push_back({index, 100 + index, {buffer->data(), kBlock}, 0});
    commit.buffers.push_back(std::move(buffer));
  }
  return commit;
}

SetContent merge(std::vector<Commit> commits, std::vector<std::unique_ptr<CommitBuffer>>& buffers) {
  return merge_commits(7, commits, buffers);
}

TEST(CommitBuffers, AreCountedWhileTheyLive) {
  const uint64_t before = CommitBuffer::bytes_in_use();
  auto small = CommitBuffer::make(1000, {});
  auto large = CommitBuffer::make(size_t{8} << 20, "/tmp");
  EXPECT_EQ(CommitBuffer::bytes_in_use(), before + 1000 + (size_t{8} << 20));
  large.reset();
  small.reset();
  EXPECT_EQ(CommitBuffer::bytes_in_use(), before);
}

TEST(MergeCommits, KeepsTheLastVersionOfEachBlock) {
  std::vector<Commit> commits;
  commits.push_back(commit_of(4 * kBlock, {0, 2}, 'a'));
  commits.push_back(commit_of(4 * kBlock, {2, 3}, 'b'));
  std::vector<std::unique_ptr<CommitBuffer>> buffers;
  const SetContent change = merge(std::move(commits), buffers);
  ASSERT_EQ(change.blocks.size(), 3U);
  EXPECT_EQ(change.blocks[0].data[0], 'a');
  EXPECT_EQ(change.blocks[1].index, 2U);
  EXPECT_EQ(change.blocks[1].data[0], 'b');
  EXPECT_EQ(change.blocks[2].index, 3U);
}

TEST(MergeCommits, LeavesOutBlocksBehindTheLastEnd) {
  std::vector<Commit> commits;
  commits.push_back(commit_of(4 * kBlock, {1, 3}, 'a'));
  commits.push_back(commit_of(2 * kBlock, {}, 'b'));
  std::vector<std::unique_ptr<CommitBuffer>> buffers;
  const SetContent change = merge(std::move(commits), buffers);
  ASSERT_EQ(change.blocks.size(), 1U);
  EXPECT_EQ(change.blocks[0].index, 1U);
}

TEST(MergeCommits, NamesTheZerosWhereAFileShrankAndGrewAgain) {
  std::vector<Commit> commits;
  commits.push_back(commit_of(1 * kBlock, {}, 'a'));
  commits.push_back(commit_of(4 * kBlock, {3}, 'b'));
  std::vector<std::unique_ptr<CommitBuffer>> buffers;
  const SetContent change = merge(std::move(commits), buffers);
  ASSERT_EQ(change.blocks.size(), 3U);
  EXPECT_EQ(change.blocks[0].index, 1U);
  EXPECT_EQ(change.blocks[0].hash, kZeroBlockHash);
  EXPECT_EQ(change.blocks[1].hash, kZeroBlockHash);
  EXPECT_EQ(change.blocks[2].data[0], 'b');
}

TEST(MergeCommits, FillsABlockThatWasShorterWhenItWasTaken) {
  Commit first = commit_of(100, {0}, 'a');
  first.blocks[0].data = first.blocks[0].data.first(100);
  std::vector<Commit> commits;
  commits.push_back(std::move(first));
  commits.push_back(commit_of(2 * kBlock, {1}, 'b'));
  std::vector<std::unique_ptr<CommitBuffer>> buffers;
  const SetContent change = merge(std::move(commits), buffers);
  ASSERT_EQ(change.blocks[0].data.size(), kBlock);
  EXPECT_EQ(change.blocks[0].data[99], 'a');
  EXPECT_EQ(change.blocks[0].data[100], 0);
}

TEST(MergeCommits, StartsOverAtAReset) {
  std::vector<Commit> commits;
  commits.push_back(commit_of(4 * kBlock, {0, 1, 2, 3}, 'a'));
  commits.push_back(commit_of(2 * kBlock, {0}, 'b'));
  commits.back().reset = true;
  std::vector<std::unique_ptr<CommitBuffer>> buffers;
  const SetContent change = merge(std::move(commits), buffers);
  EXPECT_TRUE(change.reset);
  ASSERT_EQ(change.blocks.size(), 1U);
  EXPECT_EQ(change.blocks[0].data[0], 'b');
}

}  // namespace
}  // namespace walfs
