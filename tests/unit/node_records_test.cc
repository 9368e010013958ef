#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "fs/mount/kept_descriptors.h"
#include "tests/support/test_records.h"

namespace walfs {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kRoom = 400;  // Three quarters of it are for records.

class NodeRecordsTest : public ::testing::Test {
 protected:
  // A node that the kernel knows.
  NodeId add_known(int32_t handles = 0) {
    const NodeId id = records_.add(-1, 1, ++inode_);
    settle({id, 1, handles, 0});
    return id;
  }
  void settle(const NodeEffect& effect) {
    std::vector<NodeEffect> effects = {effect};
    records_.settle(shared_.state().slots[0], effects, SlotState::kFree);
  }

  test::TestRecords shared_;
  NodeRecords& records_ = shared_.records();
  uint64_t inode_ = 0;
};

TEST_F(NodeRecordsTest, HasRoomForThreeQuartersOfTheDescriptors) {
  records_.set_descriptor_limit(kKeptDescriptorBase + kRoom);
  ASSERT_EQ(records_.limit(), kRoom / 4 * 3);
  std::vector<NodeId> ids;
  while (const NodeId id = records_.add(-1, 1, ++inode_)) ids.push_back(id);
  EXPECT_EQ(ids.size(), records_.limit());
  records_.remove(ids.front());
  EXPECT_NE(records_.add(-1, 1, ++inode_), 0u);
  EXPECT_EQ(records_.add(-1, 1, ++inode_), 0u);
}

TEST_F(NodeRecordsTest, LeavesDescriptorsToOthers) {
  const auto owned = static_cast<uint64_t>(FileDescriptor::owned());
  records_.set_descriptor_limit(kKeptDescriptorBase + kRoom);
  ASSERT_NE(records_.add(-1, 1, ++inode_), 0u);
  std::vector<FileDescriptor> others;
  while (others.size() + owned < kKeptDescriptorBase + kRoom / 8 * 7)
    others.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(records_.add(-1, 1, ++inode_), 0u);
  others.pop_back();
  EXPECT_NE(records_.add(-1, 1, ++inode_), 0u);
}

TEST_F(NodeRecordsTest, SlowsThoseDownWhoTakeTheLastDescriptors) {
  const auto owned = static_cast<uint64_t>(FileDescriptor::owned());
  records_.set_descriptor_limit(kKeptDescriptorBase + kRoom);
  const uint64_t most = kKeptDescriptorBase + kRoom / 8 * 7;
  std::vector<FileDescriptor> others;
  const auto open_until = [&](uint64_t number) {
    while (others.size() + owned < number)
      others.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  };
  open_until(most - kRoom / 8 * 7 / 4);
  EXPECT_EQ(records_.brake_ms(), 0);
  open_until(most - 40);
  const int64_t some = records_.brake_ms();
  EXPECT_GT(some, 0);
  open_until(most - 1);
  EXPECT_GT(records_.brake_ms(), some);
  EXPECT_LE(records_.brake_ms(), 20);
}

TEST_F(NodeRecordsTest, TellsWhenMoreThanThreeQuartersAreInUseAndHowManyTooMany) {
  records_.set_descriptor_limit(kKeptDescriptorBase + kRoom);
  unsigned told = 0;
  records_.when_crowded([&] { ++told; });
  for (uint64_t i = 0; i < 226; ++i) records_.add(-1, 1, ++inode_);
  EXPECT_EQ(told, 0u);
  records_.add(-1, 1, ++inode_);
  EXPECT_EQ(told, 1u);
  EXPECT_EQ(records_.excess(), 227u - 185u);
}

TEST_F(NodeRecordsTest, GivesTheNodesThatAreKnownAndNotOpenInTurn) {
  const NodeId first = add_known();
  records_.add(-1, 1, ++inode_);  // A lookup that is not answered yet.
  add_known(/*handles=*/1);
  const NodeId second = add_known();
  const auto some = records_.idle_from(0, 1);
  EXPECT_THAT(some.ids, ElementsAre(first));
  const auto others = records_.idle_from(some.next, 10);
  EXPECT_THAT(others.ids, ElementsAre(second, first)) << "once around";
  EXPECT_EQ(others.looked_at, 4u);
}

TEST_F(NodeRecordsTest, CountsWhatAServerThatDiedHasLeft) {
  add_known();
  records_.add(-1, 1, ++inode_);  // Not known to the kernel: nobody asks for it any more.
  NodeRecords next(shared_.state(), -1);
  EXPECT_EQ(next.used(), 1u);
}

}  // namespace
}  // namespace walfs
