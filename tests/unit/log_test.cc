#include "replicator/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <random>

#include "replicator/hash.h"
#include "tests/support/log_model.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

using ::testing::ElementsAre;

class LogTest : public ::testing::Test {
 protected:
  LogTest() : spool_(scratch_.make("spool")), random_(1) { open(Position::of(1, 0)); }

  void open(Position last) {
    log_.reset();
    catalog_.reset();
    auto catalog = Catalog::open(scratch_.path("catalog.db"));
    EXPECT_TRUE(catalog.ok()) << catalog.error().message;
    catalog_ = std::move(catalog).value();
    log_ = std::make_unique<Log>(*catalog_, spool_, last);
    log_->on_sealed([this](PositionRange range) { sealed_.push_back(range); });
  }
  Position append() {
    Point point = random_.next();
    const auto position = log_->append(point);
    EXPECT_TRUE(position.ok()) << position.error().message;
    return position.ok() ? *position : Position{};
  }
  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  std::vector<PositionRange> spooled() const {
    const auto found = list_spool(spool_);
    EXPECT_TRUE(found.ok());
    return found.ok() ? *found : std::vector<PositionRange>();
  }
  // Nothing can be created in the spool while this is there.
  void break_spool() { std::filesystem::rename(spool_, spool_ + ".away"); }
  void mend_spool() { std::filesystem::rename(spool_ + ".away", spool_); }

  test::ScratchDirectory scratch_;
  const std::string spool_;
  test::RandomLog random_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Log> log_;
  std::vector<PositionRange> sealed_;
};

TEST_F(LogTest, GivesPositionsInOrderFromBehindTheOneItBeganWith) {
  EXPECT_EQ(append(), at(1));
  EXPECT_EQ(append(), at(2));
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(append(), at(3));
  EXPECT_EQ(log_->last(), at(3));
  EXPECT_EQ(log_->sealed(), at(2));
}

TEST_F(LogTest, SealsIntoASegmentNamedByItsPositionsAndTellsOfIt) {
  append();
  append();
  EXPECT_TRUE(spooled().empty());
  ASSERT_TRUE(log_->seal().ok());
  append();
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_THAT(spooled(), ElementsAre(PositionRange{at(1), at(2)}, PositionRange{at(3), at(3)}));
  EXPECT_EQ(sealed_, spooled());
}

TEST_F(LogTest, SegmentsHoldThePointsThatWereAppended) {
  std::vector<Point> points;
  for (int i = 0; i < 5; ++i) {
    points.push_back(random_.next());
    ASSERT_TRUE(log_->append(points.back()).ok());
    EXPECT_GT(points.back().time_ns, 0);
  }
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(test::read_whole(spool_ + "/" + segment_name({at(1), at(5)})),
            test::make_segment(points));
}

TEST_F(LogTest, SealsNothingWhenNothingWasAppended) {
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_TRUE(spooled().empty());
  EXPECT_TRUE(sealed_.empty());
}

TEST_F(LogTest, KnowsSinceWhenThereIsSomethingToSeal) {
  EXPECT_EQ(log_->open_since_ns(), 0);
  append();
  EXPECT_GT(log_->open_since_ns(), 0);
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(log_->open_since_ns(), 0);
}

TEST_F(LogTest, KnowsHowLargeTheOpenSegmentIs) {
  EXPECT_EQ(log_->open_bytes(), 0U);
  constexpr uint32_t kBlock = 65536;
  std::minstd_rand random(1);
  constexpr uint64_t kCount = 2 * kFrameTarget / kBlock;
  Bytes noise(kCount * kBlock);
  for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
  SetContent change;
  change.id = 2;
  change.block_size = kBlock;
  change.size = noise.size();
  for (uint64_t index = 0; index < kCount; ++index) {
    const ByteView block = ByteView(noise).subspan(index * kBlock, kBlock);
    change.blocks.push_back({index, block_hash(index, block, kBlock), block, 0});
  }
  Point point;
  point.changes.emplace_back(SetFile{2, {}});
  point.changes.emplace_back(std::move(change));
  ASSERT_TRUE(log_->append(point).ok());
  EXPECT_GE(log_->open_bytes(), noise.size() / 2);
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(log_->open_bytes(), 0U);
}

TEST_F(LogTest, CommitsTheCatalogWithTheSegment) {
  append();
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(catalog_->header().position, at(1));
}

// At the end of a mount: who says that nothing has changed must not commit what is in no segment.
TEST_F(LogTest, IsNotPassedOverByACatalogThatIsSaidToBeClean) {
  append();
  EXPECT_FALSE(catalog_->set_clean().ok());
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_TRUE(catalog_->set_clean().ok());
  EXPECT_TRUE(catalog_->header().clean);
}

TEST_F(LogTest, AppendsTheSamePointAfterAFailureAsIfNothingHadBeen) {
  break_spool();
  Point point = random_.next();
  EXPECT_FALSE(log_->append(point).ok());
  EXPECT_EQ(log_->last(), at(0));
  EXPECT_EQ(log_->open_since_ns(), 0);
  EXPECT_TRUE(log_->seal().ok());
  mend_spool();
  ASSERT_TRUE(log_->append(point).ok());
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(test::read_whole(spool_ + "/" + segment_name({at(1), at(1)})),
            test::make_segment({point}));
}

TEST_F(LogTest, SealsNoSegmentWithoutAPointAfterItsFirstPointFailed) {
  // The spool has no room for a single byte.
  if (::mount("none", spool_.c_str(), "tmpfs", 0, "size=4k") != 0) {
    GTEST_SKIP() << "needs the right to mount";
  }
  {
    const FileDescriptor filler(
        ::open((spool_ + "/filler").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const Bytes page(4096);
    EXPECT_EQ(::write(filler.get(), page.data(), page.size()), 4096);
  }
  Point point = random_.next();
  const auto appended = log_->append(point);
  EXPECT_FALSE(appended.ok());
  EXPECT_EQ(log_->open_since_ns(), 0);
  EXPECT_TRUE(log_->seal().ok());
  EXPECT_TRUE(spooled().empty());
  EXPECT_TRUE(sealed_.empty());
  std::filesystem::remove(spool_ + "/filler");
  EXPECT_TRUE(log_->append(point).ok());
  EXPECT_TRUE(log_->seal().ok());
  EXPECT_THAT(spooled(), ElementsAre(PositionRange{at(1), at(1)}));
  log_.reset();
  EXPECT_EQ(::umount2(spool_.c_str(), MNT_DETACH), 0);
}

TEST_F(LogTest, SealsAtTheSecondTryWhenTheSpoolWasAway) {
  append();
  break_spool();
  EXPECT_FALSE(log_->seal().ok());
  EXPECT_TRUE(sealed_.empty());
  EXPECT_EQ(log_->sealed(), at(0));
  mend_spool();
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_THAT(spooled(), ElementsAre(PositionRange{at(1), at(1)}));
  EXPECT_EQ(test::read_whole(spool_ + "/" + segment_name(spooled()[0])).size() > 72, true);
  EXPECT_EQ(catalog_->header().position, at(1));
}

// What a kill leaves: the open segment is lost, and the catalog has heard of none of its points.
TEST_F(LogTest, KnowsItsLastPointThatIsNotPartialThoughItIsOpenedAgain) {
  append();
  EXPECT_EQ(log_->complete(), at(1));
  for (int i = 0; i < 2; ++i) {
    Point point = random_.next();
    point.partial = true;
    ASSERT_TRUE(log_->append(point).ok());
    EXPECT_TRUE(log_->partial());
  }
  ASSERT_TRUE(log_->seal().ok());
  open(at(3));
  EXPECT_TRUE(log_->partial());
  EXPECT_EQ(log_->complete(), at(1));
  EXPECT_EQ(append(), at(4));
  EXPECT_FALSE(log_->partial());
  EXPECT_EQ(log_->complete(), at(4));
}

TEST_F(LogTest, CrashLosesTheOpenSegmentInTheSpoolAndInTheCatalog) {
  append();
  ASSERT_TRUE(log_->seal().ok());
  append();
  for (const char* suffix : {"", "-wal"}) {
    std::filesystem::copy_file(scratch_.path("catalog.db") + suffix,
                               scratch_.path("image.db") + suffix);
  }
  const auto image = Catalog::open(scratch_.path("image.db"));
  ASSERT_TRUE(image.ok());
  EXPECT_EQ((*image)->header().position, at(1));
  EXPECT_THAT(spooled(), ElementsAre(PositionRange{at(1), at(1)}));
}

// A kill between the two: the spool may know more than the catalog, never less.
TEST_F(LogTest, CrashBetweenTheRenameAndTheCommitLeavesTheCatalogBehindTheSpool) {
  append();
  ASSERT_TRUE(log_->seal().ok());
  append();
  for (const char* suffix : {"", "-wal"}) {
    std::filesystem::copy_file(scratch_.path("catalog.db") + suffix,
                               scratch_.path("image.db") + suffix);
  }
  ASSERT_TRUE(log_->seal().ok());
  const auto image = Catalog::open(scratch_.path("image.db"));
  ASSERT_TRUE(image.ok());
  EXPECT_LT((*image)->header().position, spooled().back().last);
}

TEST_F(LogTest, StartsItsOpenSegmentAnewOverWhatACrashLeft) {
  test::write_whole(spool_ + "/open.tmp", Bytes(100000, 7));
  EXPECT_TRUE(spooled().empty());
  Point point = random_.next();
  ASSERT_TRUE(log_->append(point).ok());
  ASSERT_TRUE(log_->seal().ok());
  EXPECT_EQ(test::read_whole(spool_ + "/" + segment_name({at(1), at(1)})),
            test::make_segment({point}));
}

TEST(Spool, IsListedInOrderAndLeavesOtherFilesAlone) {
  const test::ScratchDirectory scratch;
  const PositionRange early{Position::of(1, 2), Position::of(1, 3)};
  const PositionRange late{Position::of(2, 4), Position::of(2, 4)};
  for (const std::string& name : {segment_name(late), segment_name(early), std::string("open.tmp"),
                                  std::string("x.seg"), std::string(".hidden")}) {
    test::write_whole(scratch.path(name), as_bytes("x"));
  }
  const auto found = list_spool(scratch.path());
  ASSERT_TRUE(found.ok());
  EXPECT_THAT(*found, ElementsAre(early, late));
  EXPECT_TRUE(std::filesystem::exists(scratch.path("x.seg")));
}

TEST(Spool, ThatIsNotThereIsAnError) {
  EXPECT_EQ(list_spool("/nowhere/at/all").error().code, Errc::kNothingThere);
}

TEST(FileDescriptor, ClosesOnceAndCanBeMoved) {
  FileDescriptor first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  FileDescriptor second(std::move(first));
  EXPECT_EQ(second.get(), number);
  second.reset();
  EXPECT_FALSE(second.valid());
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace walfs
