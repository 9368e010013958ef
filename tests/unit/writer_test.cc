#include "replicator/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/replica.h"
#include "tests/support/writing_host.h"

namespace walfs {
namespace {

using test::Host;
using test::WriterTest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(WriterTest, BeginsAReplicaAtAnEmptyUrl) {
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
  EXPECT_EQ(start->fencing, Fencing::kConditionalPut);
  EXPECT_FALSE(start->store_has_chunks);
  EXPECT_EQ(start->start, at(1, 0));
  EXPECT_EQ(start->uploaded, at(1, 0));
  EXPECT_THAT(start->spooled, IsEmpty());
  ASSERT_EQ(epochs().size(), 1U);
  EXPECT_EQ(epochs()[0].holder, "host:/srv/app");
  EXPECT_TRUE(epochs()[0].fresh);
  const CatalogHeader header = host_.catalog().header();
  EXPECT_EQ(header.volume, *read_volume(store_));
  EXPECT_EQ(header.token, epochs()[0].token);
  EXPECT_TRUE(header.claimed);
  EXPECT_FALSE(header.snapshot_done);
  EXPECT_FALSE(header.clean);
}

TEST_F(WriterTest, NeedsTheStoreToBegin) {
  go_offline();
  const auto start = host_.begin();
  ASSERT_FALSE(start.ok());
  EXPECT_EQ(start.error().code, Errc::kRetry);
}

TEST_F(WriterTest, ContinuesBehindItsLastPointInAnEpochThatBuildsOnIt) {
  establish(host_);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_FALSE(start->fresh);
  EXPECT_EQ(start->fencing, Fencing::kConditionalPut);
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_EQ(start->epoch.parent, at(1, 2));
  EXPECT_EQ(start->start, at(2, 2));
  EXPECT_EQ(host_.write(), at(2, 3));
  ASSERT_TRUE(host_.upload());
  const auto replica = list_replica(store_);
  ASSERT_TRUE(replica.ok());
  EXPECT_EQ(follow_log(*replica, {at(1, 0), at(1, 1)}).size(), 3U);
}

TEST_F(WriterTest, SendsFirstWhatItsEarlierLifeLeftInTheSpool) {
  establish(host_);
  host_.write();
  host_.write();
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok());
  EXPECT_THAT(start->spooled,
              ElementsAre(PositionRange{at(1, 3), at(1, 3)}, PositionRange{at(1, 4), at(1, 4)}));
  EXPECT_EQ(start->uploaded, at(1, 2));
  EXPECT_EQ(start->epoch.parent, at(1, 4));
  ASSERT_TRUE(host_.upload());
  EXPECT_EQ(list_replica(store_)->segments.size(), 4U);
}

// A segment in the spool that the catalog has not heard of is part of no state that it knows; what
// it held is found again by comparing.
TEST_F(WriterTest, DropsFromTheSpoolWhatTheCatalogHasNotHeardOf) {
  establish(host_);
  const PositionRange ahead{at(1, 3), at(1, 3)};
  test::write_whole(host_.spool() + "/" + segment_name(ahead), as_bytes("x"));
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok());
  EXPECT_THAT(start->spooled, IsEmpty());
  EXPECT_EQ(start->epoch.parent, at(1, 2));
  EXPECT_THAT(*list_spool(host_.spool()), IsEmpty());
}

TEST_F(WriterTest, BeginsAnewAfterAFirstUploadThatWasInterrupted) {
  ASSERT_TRUE(host_.begin().ok());
  host_.write();
  const FileId before = host_.catalog().new_id();
  static_cast<void>(before);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh && start->store_has_chunks);
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_THAT(start->spooled, IsEmpty());
  EXPECT_THAT(*list_spool(host_.spool()), IsEmpty());
  size_t files = 0;
  ASSERT_TRUE(host_.catalog().for_each_file([&](const auto&) { ++files; }).ok());
  EXPECT_EQ(files, 0U);
}

TEST_F(WriterTest, PositionsOfAFreshStartLieBehindAllThatIsInTheStore) {
  ASSERT_TRUE(host_.begin().ok());
  for (int i = 0; i < 4; ++i) host_.write();
  ASSERT_TRUE(host_.upload());
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok());
  EXPECT_EQ(start->start, at(2, 4));
  EXPECT_EQ(start->epoch.parent, at(1, 4));
}

TEST_F(WriterTest, IsRefusedWhereAnotherWritesAndToldWhoAndWhatToDo) {
  establish(other_);
  const auto start = host_.begin();
  ASSERT_FALSE(start.ok());
  EXPECT_EQ(start.error().code, Errc::kConflict);
  EXPECT_THAT(start.error().message, HasSubstr("other:/srv/app"));
  EXPECT_THAT(start.error().message, HasSubstr("--take-over"));
  EXPECT_EQ(epochs().size(), 1U);
}

TEST_F(WriterTest, TakesOverWithAFreshStartWhenItIsToldTo) {
  establish(other_);
  const auto start = host_.begin(/*take_over=*/true);
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh && start->store_has_chunks);
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_EQ(start->start, at(2, 2));
  EXPECT_EQ(host_.catalog().header().volume, *read_volume(store_));
}

TEST_F(WriterTest, ThatWasTakenOverIsRefusedWhenItComesBack) {
  establish(other_);
  ASSERT_TRUE(host_.begin(/*take_over=*/true).ok());
  const auto again = other_.begin();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Errc::kConflict);
  EXPECT_THAT(again.error().message, HasSubstr("host:/srv/app"));
}

TEST_F(WriterTest, ThatWasTakenOverDoesNoHarmWhileItStillRuns) {
  establish(other_);
  ASSERT_TRUE(host_.begin(/*take_over=*/true).ok());
  // An upload that was under way when it was taken over.
  const Position late = other_.write();
  const PositionRange range{late, late};
  store_.set_object(segment_key(range),
                    test::read_whole(other_.spool() + "/" + segment_name(range)));
  host_.write();
  ASSERT_TRUE(host_.upload());
  const auto replica = list_replica(store_);
  ASSERT_TRUE(replica.ok());
  const auto chain = follow_log(*replica, {at(2, 2), at(2, 3)});
  ASSERT_EQ(chain.size(), 1U);
  EXPECT_EQ(chain[0].range.first, at(2, 3));
}

// The replica was removed and begun anew by another host, whose epochs count from 1 again.
TEST_F(WriterTest, ThatTakesOverTakesTheNumberForWhichTheOtherOneLooks) {
  for (int i = 0; i < 5; ++i) establish(host_);
  for (const std::string& key : store_.keys()) store_.erase_object(key);
  establish(other_);
  other_.write();
  const auto start = host_.begin(/*take_over=*/true);
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_FALSE(other_.upload());
}

// Lost objects: the number has to lie behind all positions there are, and behind the epochs.
TEST_F(WriterTest, ThatTakesOverALogWhoseEpochsAreLostIsStillFound) {
  establish(other_);
  const PositionRange orphan{at(4, 7), at(4, 7)};
  store_.set_object(segment_key(orphan), Bytes(3));
  other_.write();
  const auto start = host_.begin(/*take_over=*/true);
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_EQ(start->epoch.number, 5U);
  EXPECT_EQ(start->start, at(5, 7));
  EXPECT_FALSE(other_.upload());
  const auto replica = list_replica(store_);
  ASSERT_TRUE(replica.ok()) << replica.error().message;
  EXPECT_EQ(replica->epochs.size(), 5U);
}

TEST_F(WriterTest, EndsWhereNoNumberIsLeft) {
  ASSERT_TRUE(create_volume(store_, "volume").ok());
  const std::string last = R"({"parent": "0000010000000001", "token": "t"})";
  const ByteView bytes = as_bytes(last);
  store_.set_object(epoch_key(Position::kEpochMax), Bytes(bytes.begin(), bytes.end()));
  const auto start = host_.begin(/*take_over=*/true);
  ASSERT_FALSE(start.ok());
  EXPECT_EQ(start.error().code, Errc::kUnsupported);
}

TEST_F(WriterTest, LeavesTheVolumeAsItIsWhereTheStoreIgnoresConditions) {
  store_.ignore_conditions();
  establish(other_);
  const std::string volume = *read_volume(store_);
  const auto start = host_.begin(/*take_over=*/true);
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_EQ(start->fencing, Fencing::kIgnored);
  EXPECT_EQ(*read_volume(store_), volume);
}

TEST_F(WriterTest, BeginsAnewWhenTheReplicaIsAnotherVolumeThanTheCatalogs) {
  establish(host_);
  for (const std::string& key : store_.keys()) store_.erase_object(key);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
  EXPECT_NE(host_.catalog().header().volume, "");
  EXPECT_EQ(host_.catalog().header().volume, *read_volume(store_));
}

TEST_F(WriterTest, BeginsAnewAtAnotherUrl) {
  establish(host_);
  for (const std::string& key : store_.keys()) store_.erase_object(key);
  const auto start = host_.begin(false, "memory://elsewhere");
  ASSERT_TRUE(start.ok());
  EXPECT_TRUE(start->fresh);
  EXPECT_EQ(host_.catalog().header().url, "memory://elsewhere");
}

// Somebody who wanted room on the disk.
TEST_F(WriterTest, BeginsAnewWhenTheSpoolWasEmptied) {
  establish(host_);
  std::filesystem::remove(host_.spool() + "/" + segment_name({host_.write(), at(1, 3)}));
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
}

TEST_F(WriterTest, BeginsAnewWhenTheSpoolLacksItsFirstSegment) {
  establish(host_);
  std::filesystem::remove(host_.spool() + "/" + segment_name({host_.write(), at(1, 3)}));
  host_.write();
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
}

TEST_F(WriterTest, GoesOnFromAnEmptySpoolWhenTheStoreHasAll) {
  establish(host_);
  for (int i = 0; i < 1200; ++i) host_.write();
  ASSERT_TRUE(host_.upload());
  store_.forget_requests();
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_FALSE(start->fresh);
  EXPECT_EQ(start->uploaded, at(2, 1202));
  EXPECT_EQ(start->proven, at(2, 1202));
  EXPECT_LE(store_.count(test::Call::kList, std::string(kLogPrefix)), 3U);
}

// Without the store it cannot know; it says so before it would build on what nobody has.
TEST_F(WriterTest, UploadsNothingBehindSegmentsThatNobodyHas) {
  establish(host_);
  std::filesystem::remove(host_.spool() + "/" + segment_name({host_.write(), at(1, 3)}));
  go_offline();
  ASSERT_TRUE(host_.begin().ok());
  host_.write();
  store_.heal();
  EXPECT_FALSE(host_.upload(std::chrono::milliseconds(500)));
  EXPECT_THAT(host_.upload_error(), HasSubstr("neither in the spool nor in"));
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
}

// A power cut can take a file from the spool that the catalog counts on, or its bytes: then the
// catalog's position is not in the replica, and nothing can build on it.
TEST_F(WriterTest, BeginsAnewWhenTheSpoolDoesNotLeadToTheCatalogsPosition) {
  for (const uint64_t lost : {uint64_t{4}, uint64_t{5}}) {
    for (const bool whole_file : {true, false}) {
      Host host(store_, "host:/srv/lost");
      ASSERT_TRUE(host.begin(/*take_over=*/true).ok());
      const Position before = host.write();
      ASSERT_TRUE(host.upload());
      host.finish_first_upload();
      for (int i = 0; i < 3; ++i) host.write();
      const Position gone{before.value + lost - 2};
      const std::string path = host.spool() + "/" + segment_name({gone, gone});
      ASSERT_TRUE(std::filesystem::exists(path));
      if (whole_file) {
        std::filesystem::remove(path);
      } else {
        test::write_whole(path, Bytes(std::filesystem::file_size(path)));
      }
      const auto start = host.begin();
      ASSERT_TRUE(start.ok()) << start.error().message;
      EXPECT_TRUE(start->fresh);
      EXPECT_THAT(start->spooled, IsEmpty());
    }
  }
}

}  // namespace
}  // namespace walfs
