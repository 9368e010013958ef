// Directories that follow their replica: between two calls they are what a restore would give.
#include "replicator/follow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "replicator/restore.h"
#include "tests/support/replica_builder.h"
#include "tests/support/restored_model.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

namespace fs = std::filesystem;
using test::Call;
using test::expect_tree;
using test::names_in;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// A replica that grows, and a directory that was restored from it.
class Followed {
 public:
  explicit Followed(uint32_t seed) : builder(store, seed), random_(seed) {
    for (int i = 0; i < 5; ++i) builder.add();
    builder.seal();
    builder.put_snapshot(builder.start(), builder.last());
    EXPECT_TRUE(restore(store, target(), {}).ok());
  }
  std::string target() const { return scratch.path("target"); }
  Result<Follower> follow() {
    auto claimed = FollowPlace::claim(target());
    EXPECT_TRUE(claimed.ok());
    place.emplace(*std::move(claimed));
    return Follower::start(store, *place, builder.last());
  }
  void grow(size_t points) {
    for (size_t i = 0; i < points; ++i) {
      if (random_() % 4 == 0) {
        builder.add_partial();
      } else {
        builder.add();
      }
      if (random_() % 3 == 0) builder.seal();
    }
    builder.seal();
  }
  // The directory is what it should be as of the follower's position.
  void expect_state(const Follower& follower) {
    expect_tree(builder.state(follower.position()), kRootId, target());
  }

  test::ScratchDirectory scratch;
  test::MemoryStore store;
  test::ReplicaBuilder builder;
  std::optional<FollowPlace> place;

 private:
  std::minstd_rand random_;
};

class FollowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_FAIL() << "owners can be given by root only";
  }
};

TEST_F(FollowTest, BringsTheDirectoryToEachNewestPoint) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Followed followed(seed);
    {
      auto follower = followed.follow();
      ASSERT_TRUE(follower.ok()) << follower.error().message;
      for (size_t i = 0; i < 12; ++i) {
        followed.grow(i);
        const Position newest = followed.builder.complete_before(followed.builder.last());
        const auto changed = follower->catch_up(nullptr);
        ASSERT_TRUE(changed.ok()) << changed.error().message;
        EXPECT_EQ(follower->position(), newest);
        EXPECT_EQ(follower->time_ns(), test::ReplicaBuilder::time_of(newest));
        ASSERT_NO_FATAL_FAILURE(followed.expect_state(*follower));
      }
    }
    followed.place.reset();
    EXPECT_THAT(names_in(followed.scratch.path()), UnorderedElementsAre("target"));
  }
}

TEST_F(FollowTest, IsAtAPointWhateverFailsMeanwhile) {
  size_t failures = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Followed followed(seed);
    auto follower = followed.follow();
    ASSERT_TRUE(follower.ok()) << follower.error().message;
    followed.grow(40);
    for (size_t skip = 0; skip < 30; skip += 1 + seed % 3) {
      followed.store.fail(Call::kGetRange, seed % 2 == 0 ? Errc::kRetry : Errc::kNothingThere, 1,
                          skip % 5);
      const auto changed = follower->catch_up(nullptr);
      failures += changed.ok() ? 0 : 1;
      ASSERT_NO_FATAL_FAILURE(followed.expect_state(*follower));
      followed.store.heal();
    }
    ASSERT_TRUE(follower->catch_up(nullptr).ok());
    EXPECT_EQ(follower->position(), followed.builder.complete_before(followed.builder.last()));
    followed.expect_state(*follower);
  }
  EXPECT_GT(failures, 20U);
}

TEST_F(FollowTest, CostsOneRequestWhenNothingIsNew) {
  Followed followed(1);
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  followed.store.forget_requests();
  const auto changed = follower->catch_up(nullptr);
  ASSERT_TRUE(changed.ok());
  EXPECT_FALSE(*changed);
  EXPECT_EQ(followed.store.requests().size(), 1U);
}

TEST_F(FollowTest, EndsBetweenTwoPointsWhenItIsToldTo) {
  Followed followed(2);
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  followed.grow(10);
  const std::atomic<bool> cancelled{true};
  const auto changed = follower->catch_up(&cancelled);
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code, Errc::kCancelled);
  followed.expect_state(*follower);
}

// The directory has point 5, and another writer goes on from point 3.
class TakenOver {
 public:
  explicit TakenOver(bool fresh) : builder(store, 3) {
    for (int i = 0; i < 3; ++i) builder.add();
    builder.seal();
    builder.put_snapshot(builder.start(), Position::of(1, 2));
    for (int i = 0; i < 2; ++i) builder.add();
    builder.seal();
    EXPECT_TRUE(restore(store, target(), {}).ok());
    place.emplace(*FollowPlace::claim(target()));
    EXPECT_TRUE(claim_epoch(store, test::make_epoch(2, Position::of(1, 3), fresh)).ok());
    Point other;
    other.position = Position::of(2, 4);
    store.set_object(segment_key({other.position, other.position}), test::make_segment({other}));
  }
  std::string target() const { return scratch.path("target"); }

  test::ScratchDirectory scratch;
  test::MemoryStore store;
  test::ReplicaBuilder builder;
  std::optional<FollowPlace> place;
};

TEST_F(FollowTest, FindsThatAnotherWriterWentOnFromAnEarlierPoint) {
  TakenOver replica(/*fresh=*/false);
  auto follower = Follower::start(replica.store, *replica.place, Position::of(1, 5));
  ASSERT_FALSE(follower.ok()) << "its point is no part of the history any more";
  EXPECT_EQ(follower.error().code, Errc::kNothingThere);
}

// Else it would restore the same state again and again, for as long as the first upload takes.
TEST_F(FollowTest, StaysWhereItIsUntilARestoreWouldLeadElsewhere) {
  TakenOver replica(/*fresh=*/true);
  auto follower = Follower::start(replica.store, *replica.place, Position::of(1, 5));
  ASSERT_TRUE(follower.ok()) << follower.error().message;
  const auto changed = follower->catch_up(nullptr);
  ASSERT_TRUE(changed.ok()) << changed.error().message;
  EXPECT_FALSE(*changed);
  Point next;
  next.position = Position::of(2, 5);
  replica.store.set_object(segment_key({next.position, next.position}), test::make_segment({next}));
  Snapshot snapshot = replica.builder.make_snapshot(Position::of(1, 3), Position::of(1, 3));
  snapshot.range = {Position::of(2, 3), Position::of(2, 4)};
  replica.store.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  const auto elsewhere = follower->catch_up(nullptr);
  ASSERT_FALSE(elsewhere.ok());
  EXPECT_EQ(elsewhere.error().code, Errc::kConflict);
  EXPECT_THAT(elsewhere.error().message, HasSubstr("host:/srv/app went on from an earlier point"));
}

TEST_F(FollowTest, WritesToNothingThatHasTakenTheDirectorysPlace) {
  Followed followed(7);
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  fs::rename(followed.target(), followed.scratch.path("moved"));
  fs::create_directory(followed.target());
  followed.grow(10);
  const auto changed = follower->catch_up(nullptr);
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code, Errc::kIo);
  EXPECT_THAT(changed.error().message, HasSubstr("is not the directory any more"));
  EXPECT_TRUE(names_in(followed.target()).empty());
  expect_tree(followed.builder.state(follower->position()), kRootId,
              followed.scratch.path("moved"));
}

TEST_F(FollowTest, GoesThroughNoSymbolicLink) {
  Followed followed(8);
  Attributes directory, file;
  directory.type = FileType::kDirectory;
  directory.mode = 0755;
  file.mode = 0644;
  Point first, second;
  first.changes = {SetFile{1000, directory}, SetEntry{kRootId, "d", 1000}, SetFile{1001, file},
                   SetEntry{1000, "passwd", 1001}};
  second.changes = {SetEntry{1000, "passwd", kNoFile}, DropFile{1001}};
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  followed.builder.add(first);
  followed.builder.seal();
  ASSERT_TRUE(follower->catch_up(nullptr).ok());
  const std::string outside = followed.scratch.make("outside");
  std::ofstream(outside + "/passwd") << "not ours";
  fs::remove_all(followed.target() + "/d");
  fs::create_symlink(outside, followed.target() + "/d");
  followed.builder.add(second);
  followed.builder.seal();
  EXPECT_FALSE(follower->catch_up(nullptr).ok());
  EXPECT_THAT(names_in(outside), UnorderedElementsAre("passwd"));
}

TEST_F(FollowTest, FindsThatSomethingElseHasChangedAFile) {
  Followed followed(4);
  Attributes attributes;
  attributes.mode = 0644;
  Bytes content(4096, 'a');
  Point first;
  first.changes = {SetFile{1000, attributes}, SetEntry{kRootId, "file", 1000},
                   followed.builder.log().difference(1000, content, 1024)};
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  followed.builder.add(first);
  followed.builder.seal();
  ASSERT_TRUE(follower->catch_up(nullptr).ok());
  {
    std::fstream file(followed.target() + "/file");
    file.seekp(2000);
    file << "not ours";
  }
  content[2000] = 'b';
  test::ModelFile model;
  model.block_size = 1024;
  model.content = content;
  Point second;
  SetContent change;
  change.id = 1000;
  change.block_size = 1024;
  change.size = content.size();
  change.checksum = test::model_checksum(model);
  const ByteView block = ByteView(content).subspan(0, 1024);
  change.blocks = {{0, block_hash(0, block, 1024), block, 0}};
  second.changes = {change};
  followed.builder.add(second);
  followed.builder.seal();
  const auto changed = follower->catch_up(nullptr);
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code, Errc::kDamaged);
  EXPECT_THAT(changed.error().message, HasSubstr("file does not have the checksum"));
}

// What fails in the directory must not look like a store that may answer another time.
TEST_F(FollowTest, EndsWhereTheDirectoryIsNotWhatItLeft) {
  for (uint32_t seed = 10; seed < 20; ++seed) {
    Followed followed(seed);
    auto follower = followed.follow();
    ASSERT_TRUE(follower.ok());
    for (const std::string& name : names_in(followed.target()))
      fs::remove_all(followed.target() + "/" + name);
    followed.grow(40);
    const auto changed = follower->catch_up(nullptr);
    ASSERT_FALSE(changed.ok()) << seed;
    EXPECT_TRUE(changed.error().code == Errc::kIo || changed.error().code == Errc::kDamaged)
        << changed.error().message;
  }
}

TEST_F(FollowTest, IsRefusedWhereSomebodyFollowsAlready) {
  Followed followed(5);
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  const auto second = FollowPlace::claim(followed.target());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr("follows with " + followed.target()));
}

TEST_F(FollowTest, TouchesNothingThatNoRestoreHasLeft) {
  Followed followed(5);
  const std::string mine = followed.target() + ".following/mine";
  fs::create_directories(mine);
  const auto claimed = FollowPlace::claim(followed.target());
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code, Errc::kConflict);
  EXPECT_TRUE(fs::exists(mine));
}

TEST_F(FollowTest, UsesThePlaceAgainThatSomebodyWhoWasKilledHasLeft) {
  Followed followed(6);
  const std::string left = followed.target() + ".following/walfs-files";
  fs::create_directories(left);
  std::ofstream(left + "/1001") << "aside";
  auto follower = followed.follow();
  ASSERT_TRUE(follower.ok());
  followed.grow(20);
  ASSERT_TRUE(follower->catch_up(nullptr).ok());
  followed.expect_state(*follower);
}

}  // namespace
}  // namespace walfs
