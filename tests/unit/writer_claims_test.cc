// A writer that cannot claim its epoch when it begins, or does not hear that it has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/replica.h"
#include "tests/support/writing_host.h"

namespace walfs {
namespace {

using test::Host;
using test::LateStore;
using test::WriterTest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(WriterTest, StartsWithoutTheStoreAndClaimsWhenItIsBack) {
  establish(host_);
  go_offline();
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_FALSE(start->fresh);
  EXPECT_EQ(start->fencing, Fencing::kUnclaimed);
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_EQ(host_.write(), at(2, 3));
  store_.heal();
  ASSERT_TRUE(host_.upload());
  EXPECT_EQ(epochs().size(), 2U);
  EXPECT_TRUE(host_.catalog().header().claimed);
}

TEST_F(WriterTest, GoesOnInTheSameEpochAsLongAsTheStoreHasNotHeardOfIt) {
  establish(host_);
  go_offline();
  ASSERT_TRUE(host_.begin().ok());
  host_.write();
  const auto again = host_.begin();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->epoch.number, 2U);
  EXPECT_EQ(again->epoch.parent, at(1, 2));
  EXPECT_EQ(again->start, at(2, 3));
  store_.heal();
  const auto online = host_.begin();
  ASSERT_TRUE(online.ok()) << online.error().message;
  EXPECT_EQ(online->fencing, Fencing::kConditionalPut);
  EXPECT_FALSE(online->fresh);
  EXPECT_EQ(online->epoch.number, 2U);
  EXPECT_THAT(online->spooled, ElementsAre(PositionRange{at(2, 3), at(2, 3)}));
  ASSERT_TRUE(host_.upload());
  const auto replica = list_replica(store_);
  EXPECT_EQ(follow_log(*replica, {at(1, 0), at(1, 1)}).size(), 3U);
}

TEST_F(WriterTest, ThatStartedWithoutTheStoreIsFencedWhenItWasTakenOverMeanwhile) {
  establish(host_);
  go_offline();
  ASSERT_TRUE(host_.begin().ok());
  host_.write();
  store_.heal();
  ASSERT_TRUE(other_.begin(/*take_over=*/true).ok());
  EXPECT_FALSE(host_.upload());
  const auto again = host_.begin();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Errc::kConflict);
  EXPECT_THAT(again.error().message, HasSubstr("other:/srv/app"));
}

// The same directory on another machine, with the same catalog, has an upload acknowledged between
// the look at the log and the claim.
TEST_F(WriterTest, DoesNotBuildOnAPositionBehindWhichSomethingWasAddedBeforeItsClaim) {
  LateStore store;
  Host host(store, "host:/srv/app");
  establish(host);
  const std::string key = segment_key({at(1, 3), at(1, 3)});
  Point point;
  point.position = at(1, 3);
  store.delay_next_put(key);
  const Bytes segment = test::make_segment({point});
  ASSERT_FALSE(store.put(key, ObjectBody::of(segment), PutMode::kIfAbsent).ok());
  const auto start = host.begin();
  ASSERT_FALSE(start.ok());
  EXPECT_EQ(start.error().code, Errc::kRetry);
  EXPECT_THAT(start.error().message, HasSubstr("try again"));
  const auto again = host.begin();
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_TRUE(again->fresh);
}

// It has points in that epoch which the catalog does not know any more.
TEST_F(WriterTest, WithAnOlderCatalogDoesNotGoOnInAnEpochThatItHasUsed) {
  establish(host_);
  go_offline();
  ASSERT_TRUE(host_.begin().ok());
  const std::string older = host_.copy_catalog();
  host_.write();
  store_.heal();
  ASSERT_TRUE(host_.upload());
  go_offline();
  host_.bring_catalog_back(older);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_EQ(start->epoch.number, 3U);
}

// It hears of what it lacks when the store is there again, and before it has claimed anything.
TEST_F(WriterTest, WithACatalogOlderThanTheStoreUploadsNothingUntilItBeginsAnew) {
  establish(host_);
  const std::string older = host_.copy_catalog();
  const Position acknowledged = host_.write();
  ASSERT_TRUE(host_.upload());
  host_.bring_catalog_back(older);
  go_offline();
  ASSERT_TRUE(host_.begin().ok());
  host_.write();
  store_.heal();
  EXPECT_FALSE(host_.upload(std::chrono::seconds(1)));
  EXPECT_THAT(host_.upload_error(), HasSubstr("older"));
  EXPECT_EQ(epochs().size(), 1U);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
  EXPECT_EQ(start->epoch.parent, acknowledged);
}

// The steps of a comparison behind its position would hide what was acknowledged since.
TEST_F(WriterTest, WithACatalogOlderThanTheStoreBeginsAnew) {
  establish(host_);
  const std::string older = host_.copy_catalog();
  const Position acknowledged = host_.write();
  ASSERT_TRUE(host_.upload());
  host_.bring_catalog_back(older);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh);
  EXPECT_EQ(start->epoch.parent, acknowledged);
}

TEST_F(WriterTest, ClaimWhoseAnswerWasLostDoesNotLockItOut) {
  establish(host_);
  store_.lose_answer_of_put("epochs/");
  const auto unsure = host_.begin();
  ASSERT_TRUE(unsure.ok()) << unsure.error().message;
  EXPECT_EQ(unsure->fencing, Fencing::kUnclaimed);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_EQ(start->fencing, Fencing::kConditionalPut);
  EXPECT_FALSE(start->fresh);
  EXPECT_EQ(start->epoch.number, 3U);
  EXPECT_EQ(epochs().size(), 3U);
}

TEST_F(WriterTest, FirstClaimWhoseAnswerWasLostDoesNotLockItOut) {
  store_.lose_answer_of_put("epochs/");
  EXPECT_FALSE(host_.begin().ok());
  const auto start = host_.begin();
  EXPECT_TRUE(start.ok()) << start.error().message;
}

// The claim is given up, and arrives just before the next one.
TEST_F(WriterTest, FirstClaimThatArrivesLateDoesNotLockItOut) {
  LateStore store;
  Host host(store, "host:/srv/app");
  ASSERT_TRUE(host.begin().ok());
  host.write();
  ASSERT_TRUE(host.upload());
  for (uint64_t epoch = 2; epoch < 4; ++epoch) {
    store.delay_next_put("epochs/");
    EXPECT_EQ(host.begin().error().code, Errc::kRetry);
    const auto start = host.begin();
    ASSERT_TRUE(start.ok()) << start.error().message;
    EXPECT_TRUE(start->fresh);
    EXPECT_EQ(start->epoch.number, epoch);
    EXPECT_EQ(read_newest_epoch(store)->value().parent, start->epoch.parent);
    host.write();
    EXPECT_TRUE(host.upload()) << host.upload_error();
  }
}

// The claim of an epoch that goes on where the one before ended is given up, what was written in it
// is lost, and then it arrives.
class ClaimOfALostEpoch : public WriterTest {
 protected:
  ClaimOfALostEpoch() : host_(store_, "host:/srv/app") {}
  void SetUp() override {
    establish(host_);
    store_.delay_next_put("epochs/");
    const auto start = host_.begin();
    ASSERT_TRUE(start.ok()) << start.error().message;
    ASSERT_EQ(start->fencing, Fencing::kUnclaimed);
    const Position lost = host_.write();
    ASSERT_EQ(lost, at(2, 3));
    test::write_whole(host_.spool() + "/" + segment_name({lost, lost}), Bytes(100));
  }
  void expect_to_begin_anew_behind_it() {
    const auto start = host_.begin();
    ASSERT_TRUE(start.ok()) << start.error().message;
    EXPECT_TRUE(start->fresh);
    EXPECT_EQ(start->epoch.number, 3U);
    host_.write();
    EXPECT_TRUE(host_.upload()) << host_.upload_error();
    const auto epochs = *read_epochs(store_);
    ASSERT_EQ(epochs.size(), 3U);
    EXPECT_FALSE(epochs[1].fresh);
    EXPECT_TRUE(epochs[2].fresh);
    EXPECT_EQ(epochs[2].parent, at(1, 2));
  }

  LateStore store_;
  Host host_;
};

TEST_F(ClaimOfALostEpoch, DoesNotLockItsWriterOut) {
  expect_to_begin_anew_behind_it();
}

TEST_F(ClaimOfALostEpoch, DoesNotLockItsWriterOutAfterTheNextClaimHasFailed) {
  store_.lose_next_put("epochs/000002");
  EXPECT_EQ(host_.begin().error().code, Errc::kRetry);
  expect_to_begin_anew_behind_it();
}

TEST_F(ClaimOfALostEpoch, DoesNotLockItsWriterOutAfterTheClaimBehindItHasFailed) {
  store_.lose_next_put("epochs/000003");
  EXPECT_EQ(host_.begin().error().code, Errc::kRetry);
  expect_to_begin_anew_behind_it();
}

TEST_F(ClaimOfALostEpoch, DoesNotTakeTheReplicaFromWhoeverCameBetween) {
  store_.lose_delayed();
  store_.lose_next_put("epochs/000002");
  EXPECT_EQ(host_.begin().error().code, Errc::kRetry);
  Host other(store_, "other:/srv/app");
  ASSERT_TRUE(other.begin(/*take_over=*/true).ok());
  const auto start = host_.begin();
  ASSERT_FALSE(start.ok());
  EXPECT_EQ(start.error().code, Errc::kConflict);
  EXPECT_THAT(start.error().message, HasSubstr("other:/srv/app"));
}

}  // namespace
}  // namespace walfs
