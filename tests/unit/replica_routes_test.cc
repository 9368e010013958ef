#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/replica.h"
#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using test::make_epoch;

Position at(uint64_t epoch, uint64_t sequence) {
  return Position::of(epoch, sequence);
}

// Ascending, as a listing is.
std::vector<StoredObject> objects(std::vector<PositionRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<StoredObject> found;
  for (const PositionRange& range : ranges) found.push_back({range, 100});
  return found;
}

std::vector<std::pair<uint64_t, uint64_t>> chain(const ReplicaListing& replica, Position from) {
  std::vector<std::pair<uint64_t, uint64_t>> found;
  for (const StoredObject& segment : follow_log(replica, {from, from.next()})) {
    found.emplace_back(segment.range.first.epoch(), segment.range.first.sequence());
  }
  return found;
}

using Chain = std::vector<std::pair<uint64_t, uint64_t>>;

TEST(FollowLog, GoesFromSegmentToSegmentAsLongAsThereIsNoGap) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(1, 4), at(1, 4)}, {at(1, 6), at(1, 9)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}, {1, 4}}));
  EXPECT_EQ(chain(replica, at(1, 3)), (Chain{{1, 4}}));
  EXPECT_EQ(chain(replica, at(1, 5)), (Chain{{1, 6}}));
  EXPECT_EQ(chain(replica, at(1, 2)), (Chain{{1, 1}, {1, 4}})) << "from the middle of one";
  EXPECT_EQ(chain(replica, at(1, 4)), Chain{});
}

TEST(FollowLog, GoesOnInAnEpochThatBuildsOnTheOneBefore) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false), make_epoch(5, at(2, 5), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(2, 4), at(2, 5)}, {at(5, 6), at(5, 6)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}, {2, 4}, {5, 6}}));
}

TEST(FollowLog, DoesNotCountWhatAZombieWroteBehindTheParentOfItsSuccessor) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)},
                              {at(1, 4), at(1, 6)},
                              {at(1, 7), at(1, 7)},
                              {at(2, 4), at(2, 4)},
                              {at(2, 5), at(2, 8)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}, {2, 4}, {2, 5}}));
}

TEST(FollowLog, StaysWithTheOldWriterAsLongAsItsSuccessorHasWrittenNothing) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(1, 4), at(1, 6)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}, {1, 4}}));
}

TEST(FollowLog, TakesTheNewestOfSeveralSuccessors) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false), make_epoch(3, at(1, 3), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(2, 4), at(2, 4)}, {at(3, 4), at(3, 9)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}, {3, 4}}));
}

TEST(FollowLog, DoesNotGoOnInAnEpochThatBuildsOnAPositionInTheMiddleOfASegment) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 2), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(2, 3), at(2, 3)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}}));
}

TEST(FollowLog, DoesNotGoFromAnEpochIntoAFreshOne) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), true)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(2, 4), at(2, 5)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}}));
  EXPECT_EQ(chain(replica, at(2, 3)), (Chain{{2, 4}}));
}

TEST(FollowLog, DoesNotTakeASegmentThatEndsInAnotherEpoch) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false)};
  replica.segments = objects({{at(1, 1), at(2, 3)}});
  EXPECT_EQ(chain(replica, at(1, 0)), Chain{});
}

TEST(FollowLog, KnowsOnlyEpochsThatWereClaimed) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(2, 4), at(2, 5)}});
  EXPECT_EQ(chain(replica, at(1, 0)), (Chain{{1, 1}}));
}

TEST(Routes, LeadFromEverySnapshotThatTheLogReaches) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 9), true)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(1, 4), at(1, 6)}, {at(2, 10), at(2, 12)}});
  replica.snapshots = objects({{at(1, 0), at(1, 2)}, {at(1, 3), at(1, 6)}, {at(2, 9), at(2, 11)}});
  const auto routes = find_routes(replica);
  ASSERT_EQ(routes.size(), 3U);
  EXPECT_EQ(routes[0].segments.size(), 2U);
  EXPECT_EQ(routes[1].segments.size(), 1U);
  EXPECT_EQ(routes[2].segments.size(), 1U);
}

TEST(Routes, DoNotLeadFromSnapshotsWhoseEndTheLogDoesNotReach) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1)};
  replica.segments = objects({{at(1, 1), at(1, 3)}});
  replica.snapshots = objects({{at(1, 0), at(1, 4)}, {at(1, 3), at(1, 4)}});
  EXPECT_TRUE(find_routes(replica).empty());
}

TEST(Routes, DoNotLeadFromSnapshotsOfAnEpochThatNobodyClaimed) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1)};
  replica.segments = objects({{at(2, 1), at(2, 3)}});
  replica.snapshots = objects({{at(2, 0), at(2, 2)}});
  EXPECT_TRUE(find_routes(replica).empty());
}

// What a writer that was replaced has still put does not stand before what came instead.
TEST(Routes, DoNotLeadFromSnapshotsThatALaterWriterHasGoneOnFromBefore) {
  ReplicaListing replica;
  replica.epochs = {make_epoch(1), make_epoch(2, at(1, 3), false)};
  replica.segments = objects({{at(1, 1), at(1, 3)}, {at(1, 4), at(1, 6)}, {at(2, 4), at(2, 5)}});
  replica.snapshots = objects({{at(1, 0), at(1, 2)}, {at(1, 6), at(1, 6)}});
  const auto routes = find_routes(replica);
  ASSERT_EQ(routes.size(), 1U);
  EXPECT_EQ(routes[0].snapshot.range.last, at(1, 2));
  EXPECT_EQ(routes[0].segments.back().range.last, at(2, 5));
}

class Listing : public ::testing::Test {
 protected:
  test::MemoryStore store_;
};

TEST_F(Listing, OfAnEmptyStoreSaysThatThereIsNoReplica) {
  const auto replica = list_replica(store_);
  ASSERT_FALSE(replica.ok());
  EXPECT_EQ(replica.error().code, Errc::kNothingThere);
  EXPECT_THAT(replica.error().message, ::testing::HasSubstr("memory://test"));
}

TEST_F(Listing, ReadsMoreObjectsThanOneRequestGives) {
  ASSERT_TRUE(create_volume(store_, "v").ok());
  for (uint64_t i = 1; i <= 2500; ++i) {
    store_.set_object(segment_key({at(1, i), at(1, i)}), Bytes(3));
  }
  const auto replica = list_replica(store_);
  ASSERT_TRUE(replica.ok());
  ASSERT_EQ(replica->segments.size(), 2500U);
  EXPECT_EQ(replica->segments[2499].range.first, at(1, 2500));
  EXPECT_EQ(replica->segments[0].size, 3U);
}

TEST_F(Listing, LeavesAloneWhatIsNotOurs) {
  ASSERT_TRUE(create_volume(store_, "v").ok());
  for (const char* key : {"log/0/readme", "snapshots/old", "epochs/notes.json", "epochs/x"}) {
    store_.set_object(key, Bytes(3));
  }
  const auto replica = list_replica(store_);
  ASSERT_TRUE(replica.ok()) << replica.error().message;
  EXPECT_TRUE(replica->segments.empty() && replica->snapshots.empty() && replica->epochs.empty());
}

TEST_F(Listing, PassesOnThatTheStoreFailed) {
  ASSERT_TRUE(create_volume(store_, "v").ok());
  store_.fail(test::Call::kList, Errc::kRetry, 1, 1);
  const auto replica = list_replica(store_);
  ASSERT_FALSE(replica.ok());
  EXPECT_EQ(replica.error().code, Errc::kRetry);
}

TEST_F(Listing, ObjectsUnderTheNameOfOthersAreRefused) {
  test::ReplicaBuilder builder(store_, 3);
  builder.add();
  builder.add();
  builder.seal();
  builder.put_snapshot(at(1, 0), at(1, 1));
  const auto objects_there = store_.objects();
  const PositionRange other{at(1, 2), at(1, 3)};
  store_.set_object(segment_key(other), objects_there.at(segment_key({at(1, 1), at(1, 2)})));
  store_.set_object(snapshot_key(other), objects_there.at(snapshot_key({at(1, 0), at(1, 1)})));
  const uint64_t size = objects_there.at(segment_key({at(1, 1), at(1, 2)})).size();
  const auto index = load_segment_index(store_, {other, size});
  ASSERT_FALSE(index.ok());
  EXPECT_EQ(index.error().code, Errc::kDamaged);
  const auto snapshot = load_snapshot(store_, {other, 0});
  ASSERT_FALSE(snapshot.ok());
  EXPECT_EQ(snapshot.error().code, Errc::kDamaged);
}

}  // namespace
}  // namespace walfs
