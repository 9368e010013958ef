#include "replicator/epoch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using test::make_epoch;
using ::testing::HasSubstr;

class Epochs : public ::testing::Test {
 protected:
  void put(const std::string& key, const std::string& text) {
    const ByteView bytes = as_bytes(text);
    store_.set_object(key, Bytes(bytes.begin(), bytes.end()));
  }
  test::MemoryStore store_;
};

TEST_F(Epochs, VolumeKeepsTheIdOfWhoeverCreatedItFirst) {
  EXPECT_EQ(*create_volume(store_, "first"), "first");
  EXPECT_EQ(*create_volume(store_, "second"), "first");
  EXPECT_EQ(*read_volume(store_), "first");
}

TEST_F(Epochs, VolumeThatIsNotThereIsNamedByItsUrl) {
  const auto volume = read_volume(store_);
  ASSERT_FALSE(volume.ok());
  EXPECT_EQ(volume.error().code, Errc::kNothingThere);
  EXPECT_THAT(volume.error().message, HasSubstr("memory://test"));
}

TEST_F(Epochs, VolumeOfANewerFormatIsRefusedWithWhatToDo) {
  put("volume.json", R"({"format": 2, "volume": "v"})");
  const auto volume = read_volume(store_);
  ASSERT_FALSE(volume.ok());
  EXPECT_EQ(volume.error().code, Errc::kUnsupported);
  EXPECT_THAT(volume.error().message, HasSubstr("newer"));
}

TEST_F(Epochs, VolumeThatMakesNoSenseIsRefused) {
  for (const char* text : {"", "[]", "{", "null", R"({"format": 1})", R"({"volume": "v"})",
                           R"({"format": "1", "volume": "v"})", R"({"format": 1, "volume": 7})"}) {
    put("volume.json", text);
    EXPECT_FALSE(read_volume(store_).ok()) << text;
  }
}

TEST_F(Epochs, AreReadBackAscendingWithAllThatWasClaimed) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
  ASSERT_TRUE(claim_epoch(store_, make_epoch(2, Position::of(1, 7), false)).ok());
  const auto epochs = read_epochs(store_);
  ASSERT_TRUE(epochs.ok());
  ASSERT_EQ(epochs->size(), 2U);
  EXPECT_EQ((*epochs)[0].number, 1U);
  EXPECT_TRUE((*epochs)[0].fresh);
  const Epoch& second = (*epochs)[1];
  EXPECT_EQ(second.number, 2U);
  EXPECT_EQ(second.parent, Position::of(1, 7));
  EXPECT_FALSE(second.fresh);
  EXPECT_EQ(second.holder, "host:/srv/app");
  EXPECT_EQ(second.token, "token2");
  EXPECT_EQ(second.time_ns, make_epoch(2).time_ns);
}

TEST_F(Epochs, NewestIsFoundWithAListingAndOneRead) {
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_TRUE(claim_epoch(store_, make_epoch(i)).ok());
  store_.forget_requests();
  const auto newest = read_newest_epoch(store_);
  ASSERT_TRUE(newest.ok() && newest->has_value());
  EXPECT_EQ((*newest)->number, 20U);
  EXPECT_EQ(store_.requests().size(), 2U);
}

TEST_F(Epochs, NewestOfNoneIsNothing) {
  const auto newest = read_newest_epoch(store_);
  ASSERT_TRUE(newest.ok());
  EXPECT_FALSE(newest->has_value());
}

TEST_F(Epochs, CanBeClaimedByOneOnlyAndTheOtherIsToldWhoHoldsIt) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
  Epoch other = make_epoch(1);
  other.token = "another";
  other.holder = "elsewhere:/srv";
  const auto claimed = claim_epoch(store_, other);
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code, Errc::kConflict);
  EXPECT_EQ(
      claimed.error().message,
      "the replica at memory://test is written by host:/srv/app since 2023-11-14T22:13:20.000Z; "
      "if that one has ended for good, mount with --take-over");
  EXPECT_EQ((*read_newest_epoch(store_))->holder, "host:/srv/app");
}

TEST_F(Epochs, ClaimWhoseAnswerWasLostIsRecognisedAsOnesOwn) {
  store_.lose_answer_of_put("epochs/");
  EXPECT_FALSE(claim_epoch(store_, make_epoch(1)).ok());
  EXPECT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
}

// Both have seen the same newest epoch; the put decides.
TEST_F(Epochs, GoToOneOfTwoThatClaimAtTheSameTime) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
  Epoch other = make_epoch(2);
  other.token = "another";
  put("epochs/000002.json", R"({"parent": "0000010000000003", "token": "first", "holder": "x"})");
  const auto listed = store_.objects();
  EXPECT_EQ(claim_epoch(store_, other).error().code, Errc::kConflict);
  EXPECT_EQ(store_.objects(), listed);
}

TEST_F(Epochs, LeaveNoNumberOutSoThatAWriterThatWasReplacedFindsItsSuccessor) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(2)).ok());
  ASSERT_TRUE(claim_epoch(store_, make_epoch(6, Position::of(2, 9), false)).ok());
  EXPECT_EQ(store_.keys(), (std::vector<std::string>{epoch_key(1), epoch_key(2), epoch_key(3),
                                                     epoch_key(4), epoch_key(5), epoch_key(6)}));
  const auto epochs = read_epochs(store_);
  ASSERT_TRUE(epochs.ok()) << epochs.error().message;
  EXPECT_TRUE((*epochs)[4].fresh);
  EXPECT_EQ((*epochs)[5].parent, Position::of(2, 9));
}

TEST_F(Epochs, ThatAreClaimedForTheSakeOfALaterOneLeaveTheHistoryThatItLeaves) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
  ASSERT_TRUE(claim_epoch(store_, make_epoch(4, Position::of(2, 9), true)).ok());
  const auto epochs = read_epochs(store_);
  ASSERT_TRUE(epochs.ok()) << epochs.error().message;
  EXPECT_EQ((*epochs)[1].parent, Position{});
  EXPECT_EQ((*epochs)[2].parent, Position::of(2, 9));
}

TEST_F(Epochs, AreClaimedToTheEndByARepetitionWhereverTheFirstOneFailed) {
  for (const bool took_effect : {false, true}) {
    // The fifth put is the one that must fail, so its answer cannot be lost.
    for (size_t done = 0; done < (took_effect ? 4 : 5); ++done) {
      for (const std::string& key : store_.keys()) store_.erase_object(key);
      ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
      store_.fail(test::Call::kPut, Errc::kRetry, 1, done, "epochs/", took_effect);
      EXPECT_FALSE(claim_epoch(store_, make_epoch(5)).ok()) << done;
      store_.heal();
      const auto again = claim_epoch(store_, make_epoch(5));
      ASSERT_TRUE(again.ok()) << again.error().message;
      EXPECT_EQ(*again, Fencing::kConditionalPut);
      EXPECT_EQ(store_.keys().size(), 5U);
    }
  }
}

TEST_F(Epochs, AreNotMadeByTheThousandsWhereTheStoreHasLostThem) {
  const auto claimed = claim_epoch(store_, make_epoch(1'000'000));
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code, Errc::kDamaged);
  EXPECT_TRUE(store_.keys().empty());
}

TEST_F(Epochs, AreRefusedToWhoeverComesAfterALaterOne) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(3)).ok());
  const auto late = claim_epoch(store_, make_epoch(2));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, Errc::kConflict);
}

TEST_F(Epochs, TellWhetherTheStoreKeepsTwoWritersApart) {
  EXPECT_EQ(*claim_epoch(store_, make_epoch(1)), Fencing::kConditionalPut);
  store_.ignore_conditions();
  EXPECT_EQ(*claim_epoch(store_, make_epoch(2)), Fencing::kIgnored);
  // The second put has left the claim as it was.
  const auto newest = read_newest_epoch(store_);
  ASSERT_TRUE(newest.ok() && newest->has_value());
  EXPECT_EQ((*newest)->token, make_epoch(2).token);
  store_.refuse_conditions();
  EXPECT_EQ(*claim_epoch(store_, make_epoch(3)), Fencing::kRefused);
}

TEST_F(Epochs, CostOneRequestMoreForTheAnswerHowWellTheyAreHeld) {
  ASSERT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
  EXPECT_EQ(store_.count(test::Call::kPut), 2U);
  EXPECT_EQ(store_.requests().size(), 3U);
}

TEST_F(Epochs, HoldersWithNamesThatAreNoUtf8CanClaim) {
  Epoch epoch = make_epoch(1);
  epoch.holder = "host:/srv/\xff\xfe";
  ASSERT_TRUE(claim_epoch(store_, epoch).ok());
  EXPECT_THAT((*read_newest_epoch(store_))->holder, HasSubstr("host:/srv/"));
}

TEST_F(Epochs, ThatNameNoEarlierParentAreDamaged) {
  for (const char* parent : {"", "1", "0000020000000001", "0000030000000001"}) {
    put("epochs/000002.json", std::string(R"({"parent": ")") + parent + R"(", "token": "t"})");
    const auto epochs = read_epochs(store_);
    ASSERT_FALSE(epochs.ok()) << parent;
    EXPECT_EQ(epochs.error().code, Errc::kDamaged);
    EXPECT_THAT(epochs.error().message, HasSubstr("epochs/000002.json"));
  }
}

TEST_F(Epochs, LargerThanAnyEpochAreNotRead) {
  put("epochs/000001.json", std::string(3 << 20, ' '));
  EXPECT_FALSE(read_epochs(store_).ok());
}

// However often the directory was mounted, whoever opens the replica needs two requests for it.
TEST_F(Epochs, AreAllToldByTheNewestOne) {
  for (uint64_t i = 1; i <= 50; ++i)
    ASSERT_TRUE(claim_epoch(store_, make_epoch(i, Position::of(i - 1, i), i % 7 == 1)).ok());
  store_.forget_requests();
  const auto epochs = read_epochs(store_);
  ASSERT_TRUE(epochs.ok()) << epochs.error().message;
  EXPECT_EQ(store_.requests().size(), 2U);
  ASSERT_EQ(epochs->size(), 50U);
  for (uint64_t i = 1; i <= 50; ++i) {
    const Epoch& epoch = (*epochs)[i - 1];
    EXPECT_EQ(epoch.number, i);
    EXPECT_EQ(epoch.parent, Position::of(i - 1, i));
    EXPECT_EQ(epoch.fresh, i % 7 == 1);
  }
  EXPECT_EQ(epochs->back().holder, "host:/srv/app");
}

TEST_F(Epochs, OfWhichTheNewestDoesNotTellAreReadThemselves) {
  for (uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(claim_epoch(store_, make_epoch(i)).ok());
  put("epochs/000004.json", R"({"parent": "0000030000000001", "token": "t", "fresh": false})");
  put("epochs/000005.json", R"({"parent": "0000040000000002", "token": "t", "fresh": false,
                                "earlier": [[4, "0000030000000001", false]]})");
  const auto epochs = read_epochs(store_);
  ASSERT_TRUE(epochs.ok()) << epochs.error().message;
  ASSERT_EQ(epochs->size(), 5U);
  for (uint64_t i = 1; i <= 5; ++i) EXPECT_EQ((*epochs)[i - 1].number, i);
  EXPECT_EQ((*epochs)[3].parent, Position::of(3, 1));
}

TEST_F(Epochs, ThatTellOfEarlierOnesWhatCannotBeAreDamaged) {
  for (const char* earlier :
       {"1", "[1]", "[[1]]", R"([[1, "0000000000000000"]])", R"([["1", "0000000000000000", true]])",
        R"([[3, "0000000000000000", true]])", R"([[2, "0000020000000000", true]])",
        R"([[-1, "0000000000000000", true]])", R"([[1, "x", true]])",
        R"([[1, "0000000000000000", 1]])",
        R"([[2, "0000000000000000", true], [1, "0000000000000000", true]])"}) {
    put("epochs/000003.json",
        std::string(R"({"parent": "0000020000000001", "token": "t", "earlier": )") + earlier + "}");
    const auto epochs = read_epochs(store_);
    ASSERT_FALSE(epochs.ok()) << earlier;
    EXPECT_EQ(epochs.error().code, Errc::kDamaged) << earlier;
  }
}

TEST(Token, IsDifferentEachTime) {
  std::set<std::string> tokens;
  for (int i = 0; i < 100; ++i) tokens.insert(random_token());
  EXPECT_EQ(tokens.size(), 100U);
  EXPECT_EQ(tokens.begin()->size(), 32U);
}

}  // namespace
}  // namespace walfs
