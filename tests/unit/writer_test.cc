#include "replicator/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/log.h"
#include "replicator/replica.h"
#include "replicator/uploader.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kUrl = "memory://test";

// A directory with a catalog and a spool, and the ways in which its writer begins and ends.
class Host {
 public:
  Host(Store& store, std::string name) : store_(store), name_(std::move(name)) {
    spool_ = scratch_.make("spool");
  }

  Result<WriterStart> begin(bool take_over = false, const std::string& url = kUrl) {
    log_.reset();
    catalog_.reset();
    auto catalog = Catalog::open(scratch_.path("catalog.db"));
    if (!catalog.ok()) return catalog.error();
    catalog_ = std::move(catalog).value();
    auto start = begin_writing(store_, *catalog_, spool_, url, name_, take_over);
    if (start.ok()) {
      epoch_ = start->epoch;
      claimed_ = start->claimed;
      uploaded_ = start->uploaded;
      spooled_ = start->spooled;
      log_ = std::make_unique<Log>(*catalog_, spool_, start->start);
    }
    return start;
  }
  // Writes a point into a segment of its own.
  Position write() {
    Point point;
    point.changes = {SetFile{5, {}}};
    const auto position = log_->append(point);
    EXPECT_TRUE(position.ok());
    EXPECT_TRUE(log_->seal().ok());
    spooled_.push_back({*position, *position});
    return *position;
  }
  // Sends all that is spooled.
  bool upload() {
    Uploader uploader(store_, spool_, epoch_, claimed_, uploaded_,
                      [this] { EXPECT_TRUE(catalog_->set_claimed().ok()); });
    const auto spooled = std::exchange(spooled_, {});
    for (const PositionRange& range : spooled) uploader.add(range);
    const bool done =
        spooled.empty() || uploader.wait_for(spooled.back().last, std::chrono::seconds(30));
    if (done && !spooled.empty()) uploaded_ = spooled.back().last;
    claimed_ = claimed_ || done;
    return done;
  }
  void finish_first_upload() { EXPECT_TRUE(catalog_->set_snapshot_done().ok()); }
  Catalog& catalog() { return *catalog_; }
  const std::string& spool() const { return spool_; }

 private:
  test::ScratchDirectory scratch_;
  Store& store_;
  const std::string name_;
  std::string spool_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Log> log_;
  Epoch epoch_;
  bool claimed_ = false;
  Position uploaded_;
  std::vector<PositionRange> spooled_;
};

class WriterTest : public ::testing::Test {
 protected:
  WriterTest() : host_(store_, "host:/srv/app"), other_(store_, "other:/srv/app") {}

  static Position at(uint64_t epoch, uint64_t sequence) { return Position::of(epoch, sequence); }
  // A host whose first upload is complete and which has written two points.
  void establish(Host& host) {
    ASSERT_TRUE(host.begin().ok());
    host.write();
    host.write();
    ASSERT_TRUE(host.upload());
    host.finish_first_upload();
    ASSERT_TRUE(host.catalog().commit(host.catalog().header().position).ok());
  }
  void go_offline() {
    for (const auto call : {test::Call::kPut, test::Call::kGet, test::Call::kList}) {
      store_.fail(call, Errc::kRetry, 1000000);
    }
  }
  std::vector<Epoch> epochs() { return *read_epochs(store_); }

  test::MemoryStore store_;
  Host host_;
  Host other_;
};

TEST_F(WriterTest, BeginsAReplicaAtAnEmptyUrl) {
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->fresh && start->claimed);
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
  EXPECT_TRUE(start->claimed);
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

TEST_F(WriterTest, StartsWithoutTheStoreAndClaimsWhenItIsBack) {
  establish(host_);
  go_offline();
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_FALSE(start->fresh || start->claimed);
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
  EXPECT_TRUE(online->claimed);
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

TEST_F(WriterTest, ClaimWhoseAnswerWasLostDoesNotLockItOut) {
  establish(host_);
  store_.lose_answer_of_put("epochs/");
  const auto unsure = host_.begin();
  ASSERT_TRUE(unsure.ok()) << unsure.error().message;
  EXPECT_FALSE(unsure->claimed);
  const auto start = host_.begin();
  ASSERT_TRUE(start.ok()) << start.error().message;
  EXPECT_TRUE(start->claimed);
  EXPECT_FALSE(start->fresh);
  EXPECT_EQ(start->epoch.number, 2U);
  EXPECT_EQ(epochs().size(), 2U);
}

TEST_F(WriterTest, FirstClaimWhoseAnswerWasLostDoesNotLockItOut) {
  store_.lose_answer_of_put("epochs/");
  EXPECT_FALSE(host_.begin().ok());
  const auto start = host_.begin();
  EXPECT_TRUE(start.ok()) << start.error().message;
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
