#include "replicator/uploader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "replicator/claims.h"
#include "replicator/log.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;
using test::Call;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Only reached when something is broken.
constexpr milliseconds kLong(30000);

// As something between us and a store answers that says 200 to whatever it is asked.
class LyingStore final : public test::MemoryStore {
 public:
  std::atomic<int> lies{0};
  Result<ObjectInfo> head(const std::string& key) override {
    const auto found = MemoryStore::head(key);
    if (found.ok() || lies.fetch_sub(1) <= 0) return found;
    return ObjectInfo{key, 120, 0};
  }
};

class UploaderTest : public ::testing::Test {
 protected:
  UploaderTest() : spool_(scratch_.make("spool")) {
    EXPECT_TRUE(create_volume(store_, "volume").ok());
    store_.forget_requests();
  }

  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  static PositionRange range(uint64_t sequence) { return {at(sequence), at(sequence)}; }
  static std::string key(uint64_t sequence) { return segment_key(range(sequence)); }
  std::string file(uint64_t sequence) const { return spool_ + "/" + segment_name(range(sequence)); }
  bool spooled(uint64_t sequence) const { return std::filesystem::exists(file(sequence)); }

  static Bytes make(uint64_t sequence) {
    Point point;
    point.position = at(sequence);
    point.changes = {SetFile{2, {}}};
    return test::make_segment({point});
  }
  void spool(uint64_t sequence) { test::write_whole(file(sequence), make(sequence)); }
  void start(bool claimed = true) {
    const Fencing fencing = claimed ? Fencing::kConditionalPut : Fencing::kUnclaimed;
    uploader_ =
        std::make_unique<Uploader>(store_, spool_, test::make_epoch(1), fencing, at(0), [this] {
          ++claims_;
          return Status();
        });
  }
  void add(uint64_t sequence) {
    spool(sequence);
    uploader_->add(range(sequence));
  }
  bool arrived(uint64_t sequence) { return uploader_->wait_for(at(sequence), kLong); }

  // Whether another writer has taken over, which is asked after each upload.
  static bool asks_for_successor(const test::Request& request) {
    return request.call == Call::kHead && request.key == epoch_key(2);
  }

  test::ScratchDirectory scratch_;
  const std::string spool_;
  LyingStore store_;
  std::atomic<int> claims_{0};
  std::unique_ptr<Uploader> uploader_;
};

TEST_F(UploaderTest, SendsSegmentsInOrderWithOnePutEach) {
  start();
  for (uint64_t i = 1; i <= 5; ++i) add(i);
  ASSERT_TRUE(arrived(5));
  std::vector<std::string> keys;
  for (const test::Request& request : store_.requests()) {
    if (asks_for_successor(request)) continue;
    EXPECT_EQ(request.call, Call::kPut);
    keys.push_back(request.key);
  }
  EXPECT_THAT(keys, ElementsAre(key(1), key(2), key(3), key(4), key(5)));
  EXPECT_EQ(store_.objects().at(key(3)), make(3));
}

TEST_F(UploaderTest, TellsWhenLittleEnoughWaits) {
  store_.fail(Call::kPut, Errc::kRetry);
  start();
  add(1);
  EXPECT_TRUE(uploader_->wait_until_at_most(UINT64_MAX, std::chrono::milliseconds(0)));
  EXPECT_TRUE(uploader_->wait_until_at_most(0, kLong));
  EXPECT_EQ(uploader_->status().bytes_waiting, 0U);
  uploader_->stop();
  add(2);
  EXPECT_FALSE(uploader_->wait_until_at_most(0, std::chrono::milliseconds(0)));
}

TEST_F(UploaderTest, ForgetsASegmentOnceTheStoreHasIt) {
  start();
  add(1);
  ASSERT_TRUE(arrived(1));
  EXPECT_FALSE(spooled(1));
  const UploadStatus status = uploader_->status();
  EXPECT_EQ(status.uploaded, at(1));
  EXPECT_EQ(status.segments_waiting, 0U);
  EXPECT_EQ(status.bytes_waiting, 0U);
  EXPECT_EQ(status.room_waiting, 0U);
  EXPECT_EQ(status.oldest_waiting_ns, 0);
  EXPECT_EQ(status.puts, 1U);
  EXPECT_EQ(status.bytes_put, make(1).size());
  EXPECT_FALSE(status.error);
}

TEST_F(UploaderTest, KeepsASegmentUntilTheStoreHasIt) {
  store_.block();
  start();
  add(1);
  add(2);
  ASSERT_TRUE(store_.wait_for_requests(1));
  EXPECT_TRUE(spooled(1));
  const UploadStatus status = uploader_->status();
  EXPECT_EQ(status.uploaded, at(0));
  EXPECT_EQ(status.segments_waiting, 2U);
  EXPECT_EQ(status.bytes_waiting, make(1).size() + make(2).size());
  EXPECT_EQ(status.room_waiting, 8192U) << "a small file takes a block of the disk";
  EXPECT_GT(status.oldest_waiting_ns, 0);
  EXPECT_FALSE(uploader_->wait_for(at(1), milliseconds(1)));
  store_.release();
  EXPECT_TRUE(arrived(2));
}

TEST_F(UploaderTest, TriesAgainAfterFaultsWithoutChangingTheOrder) {
  store_.fail(Call::kPut, Errc::kRetry, 2);
  store_.fail(Call::kPut, Errc::kDenied, 1, 0, key(2));
  start();
  add(1);
  add(2);
  ASSERT_TRUE(arrived(2));
  std::vector<std::string> keys;
  for (const test::Request& request : store_.requests())
    if (!asks_for_successor(request)) keys.push_back(request.key);
  EXPECT_THAT(keys, ElementsAre(key(1), key(1), key(1), key(2), key(2)));
  EXPECT_EQ(uploader_->status().puts, 2U);
  EXPECT_FALSE(uploader_->status().error);
}

TEST_F(UploaderTest, TellsOfAFaultWhileItLasts) {
  store_.fail(Call::kPut, Errc::kDenied, 1000000);
  start();
  add(1);
  ASSERT_TRUE(store_.wait_for_requests(2));
  const UploadStatus status = uploader_->status();
  ASSERT_TRUE(status.error);
  EXPECT_EQ(status.error->code, Errc::kDenied);
  EXPECT_FALSE(status.fenced);
  EXPECT_TRUE(spooled(1));
}

TEST_F(UploaderTest, RecognisesItsOwnSegmentWhenTheAnswerWasLost) {
  store_.lose_answer_of_put(key(1));
  start();
  add(1);
  add(2);
  ASSERT_TRUE(arrived(2));
  EXPECT_FALSE(uploader_->status().fenced);
  EXPECT_FALSE(spooled(1));
}

// A process that was killed after an upload and before it removed the file.
TEST_F(UploaderTest, RecognisesASegmentThatItSentInAnEarlierLife) {
  store_.set_object(key(1), make(1));
  start();
  add(1);
  ASSERT_TRUE(arrived(1));
  EXPECT_FALSE(uploader_->status().fenced);
}

TEST_F(UploaderTest, EndsForGoodWhenAnotherWriterWroteTheSameSegment) {
  // Of the same size, so that only what is in it tells whose it is.
  Bytes theirs = make(1);
  theirs[theirs.size() - 20] ^= 1;
  store_.set_object(key(1), theirs);
  start();
  add(1);
  EXPECT_FALSE(arrived(1));
  const UploadStatus status = uploader_->status();
  EXPECT_TRUE(status.fenced);
  ASSERT_TRUE(status.error);
  EXPECT_EQ(status.error->code, Errc::kConflict);
  EXPECT_THAT(status.error->message, HasSubstr(key(1)));
  EXPECT_EQ(store_.objects().at(key(1)), theirs);
  const size_t requests = store_.requests().size();
  add(2);
  EXPECT_FALSE(arrived(2));
  EXPECT_EQ(store_.requests().size(), requests);
  EXPECT_TRUE(spooled(1) && spooled(2));
}

TEST_F(UploaderTest, ClaimsTheEpochBeforeItsFirstUploadAndOnce) {
  start(/*claimed=*/false);
  add(1);
  add(2);
  ASSERT_TRUE(arrived(2));
  // Once more to see how well it is held.
  EXPECT_EQ(store_.count(Call::kPut, "epochs/"), 2U);
  const auto requests = store_.requests();
  const auto first_put = std::find_if(requests.begin(), requests.end(),
                                      [](const auto& r) { return r.call == Call::kPut; });
  EXPECT_EQ(first_put->key, epoch_key(1));
  EXPECT_EQ(claims_, 1);
  EXPECT_EQ(uploader_->status().fencing, Fencing::kConditionalPut);
}

TEST_F(UploaderTest, ClaimsNothingThatIsClaimedAlready) {
  start();
  add(1);
  ASSERT_TRUE(arrived(1));
  EXPECT_EQ(store_.count(Call::kPut, "epochs/"), 0U);
  EXPECT_EQ(claims_, 0);
}

TEST_F(UploaderTest, ClaimsAgainUntilTheStoreAnswers) {
  store_.fail(Call::kPut, Errc::kRetry, 2, 0, "epochs/");
  start(/*claimed=*/false);
  add(1);
  ASSERT_TRUE(arrived(1));
  EXPECT_EQ(claims_, 1);
}

TEST_F(UploaderTest, ClaimsNoEpochThatBuildsOnLessThanTheStoreHas) {
  Epoch before = test::make_epoch(1);
  before.token = "before";
  ASSERT_TRUE(claim_epoch(store_, before).ok());
  const Bytes known = make(1);
  const Bytes unknown = make(2);
  ASSERT_TRUE(store_.put(key(1), ObjectBody::of(known), PutMode::kIfAbsent).ok());
  ASSERT_TRUE(store_.put(key(2), ObjectBody::of(unknown), PutMode::kIfAbsent).ok());
  Epoch epoch = test::make_epoch(2);
  epoch.fresh = false;
  epoch.parent = at(1);
  EXPECT_EQ(claim_late(store_, epoch).error().code, Errc::kDamaged);
  EXPECT_EQ(store_.keys("epochs/").size(), 1U);
  epoch.parent = at(2);
  EXPECT_TRUE(claim_late(store_, epoch).ok());
  // Its own points are behind that one, too.
  const PositionRange own{Position::of(2, 3), Position::of(2, 3)};
  ASSERT_TRUE(store_.put(segment_key(own), ObjectBody::of(known), PutMode::kIfAbsent).ok());
  EXPECT_TRUE(claim_late(store_, epoch).ok());
}

TEST_F(UploaderTest, UploadsNothingWhenTheEpochIsTakenAndSaysByWhom) {
  Epoch other = test::make_epoch(1);
  other.token = "other";
  other.holder = "elsewhere:/srv";
  ASSERT_TRUE(claim_epoch(store_, other).ok());
  start(/*claimed=*/false);
  add(1);
  EXPECT_FALSE(arrived(1));
  EXPECT_TRUE(uploader_->status().fenced);
  EXPECT_THAT(uploader_->status().error->message, HasSubstr("elsewhere:/srv"));
  EXPECT_TRUE(store_.keys("log/").empty());
  EXPECT_EQ(claims_, 0);
  EXPECT_TRUE(spooled(1));
}

TEST_F(UploaderTest, EndsForGoodAndAcknowledgesNothingOnceASuccessorHasTheNextEpoch) {
  start();
  add(1);
  ASSERT_TRUE(arrived(1));
  Epoch successor = test::make_epoch(2);
  successor.holder = "elsewhere:/srv";
  ASSERT_TRUE(claim_epoch(store_, successor).ok());
  add(2);
  EXPECT_FALSE(arrived(2));
  EXPECT_TRUE(uploader_->status().fenced);
  EXPECT_EQ(uploader_->status().uploaded, at(1));
  EXPECT_THAT(uploader_->status().error->message, HasSubstr("elsewhere:/srv"));
}

// Else a writer that was replaced would acknowledge what does not count.
TEST_F(UploaderTest, AcknowledgesNothingWhileItCannotAskForASuccessor) {
  store_.fail(Call::kHead, Errc::kRetry, 3, 0, epoch_key(2));
  start();
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(1)).ok());
  Epoch successor = test::make_epoch(2);
  ASSERT_TRUE(claim_epoch(store_, successor).ok());
  add(1);
  EXPECT_FALSE(arrived(1));
  EXPECT_TRUE(uploader_->status().fenced);
  EXPECT_EQ(uploader_->status().uploaded, at(0));
  EXPECT_EQ(store_.count(Call::kPut, key(1)), 1U);
  EXPECT_TRUE(spooled(1));
}

TEST_F(UploaderTest, IsNotEndedByAnAnswerThatNobodyElseConfirms) {
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(1)).ok());
  store_.lies = 2;
  store_.set_object(key(1), make(1));
  start();
  add(1);
  ASSERT_TRUE(arrived(1));
  EXPECT_FALSE(uploader_->status().fenced);
  EXPECT_FALSE(spooled(1));
}

TEST_F(UploaderTest, EndsForGoodWhenTheSegmentOfAnotherWriterIsShorter) {
  store_.set_object(key(1), Bytes(5));
  start();
  add(1);
  EXPECT_FALSE(arrived(1));
  EXPECT_TRUE(uploader_->status().fenced);
}

TEST_F(UploaderTest, ClaimsNothingInAReplicaThatWasRemoved) {
  start(/*claimed=*/false);
  store_.erase_object("volume.json");
  add(1);
  EXPECT_FALSE(uploader_->wait_for(at(1), milliseconds(50)));
  EXPECT_TRUE(store_.keys().empty());
  EXPECT_FALSE(uploader_->status().fenced);
}

TEST_F(UploaderTest, MakesNoRequestWhileThereIsNothingToSend) {
  start(/*claimed=*/false);
  EXPECT_FALSE(uploader_->wait_for(at(1), milliseconds(50)));
  uploader_->stop();
  EXPECT_TRUE(store_.requests().empty());
}

TEST_F(UploaderTest, LeavesWhatWaitsInTheSpoolWhenItIsStopped) {
  store_.block();
  start();
  add(1);
  add(2);
  ASSERT_TRUE(store_.wait_for_requests(1));
  std::thread stopper([this] { uploader_->stop(); });
  // Stopping was asked for once nobody waits any more.
  EXPECT_FALSE(uploader_->wait_for(at(2), kLong));
  store_.release();
  stopper.join();
  EXPECT_FALSE(spooled(1));
  EXPECT_TRUE(spooled(2));
  EXPECT_EQ(store_.count(Call::kPut), 1U);
}

TEST_F(UploaderTest, StopsAtOnceWhileItWaitsToTryAgain) {
  store_.fail(Call::kPut, Errc::kRetry, 1000000);
  start();
  add(1);
  ASSERT_TRUE(store_.wait_for_requests(3));
  uploader_->stop();
  EXPECT_TRUE(spooled(1));
}

TEST_F(UploaderTest, WaitsForNothingThatIsThereAlready) {
  start();
  EXPECT_TRUE(uploader_->wait_for(at(0), milliseconds(0)));
}

}  // namespace
}  // namespace walfs
