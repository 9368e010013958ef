// Restores that were interrupted and go on: what was fetched is not fetched again, and nothing that
// is on the disk is believed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <fstream>
#include <random>

#include "replicator/join.h"
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

class RestoreResume : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_FAIL() << "owners can be given by root only";
  }
  std::string target() const { return scratch_.path("target"); }
  std::string kept() const { return target() + ".restoring"; }
  std::string kept(const std::string& name) const { return kept() + "/walfs-files/" + name; }

  // A database of 100 KiB in chunks, and a file in the log.
  void put_small_replica() {
    Attributes file;
    file.mode = 0644;
    Point names;
    names.changes = {SetFile{100, file}, SetFile{101, file}, SetEntry{kRootId, "one.db", 100},
                     SetEntry{kRootId, "two.txt", 101}, content(100, 100 * 1024, 1)};
    builder_.add(names);
    builder_.seal();
    builder_.put_snapshot(Position::of(1, 1), Position::of(1, 1));
    Point text;
    text.changes = {content(101, 5000, 2)};
    builder_.add(text);
    builder_.seal();
  }
  SetContent content(FileId id, size_t size, uint8_t seed) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(seed + i / 1024);
    return builder_.log().difference(id, bytes, 1024);
  }
  // Ends after so many objects.
  Result<RestoreReport> restore_interrupted(test::MemoryStore& store, size_t objects,
                                            RestoreTarget until = {}) {
    std::atomic<bool> cancelled{false};
    size_t done = 0;
    RestoreOptions options;
    options.threads = 1;
    options.target = until;
    options.cancelled = &cancelled;
    options.progress = [&](const RestoreProgress&) { cancelled = ++done >= objects; };
    return restore(store, target(), options);
  }
  size_t chunks_read() const { return store_.count(Call::kGet, "chunks/"); }

  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
  test::ReplicaBuilder builder_{store_, 7};
};

TEST_F(RestoreResume, FetchesNothingTwice) {
  put_small_replica();
  const size_t chunks = store_.keys("chunks/").size();
  ASSERT_GT(chunks, 10U);
  for (const size_t objects : {size_t{3}, size_t{4}}) {
    const auto report = restore_interrupted(store_, objects);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code, Errc::kCancelled);
    EXPECT_THAT(report.error().message, HasSubstr("goes on from here"));
    EXPECT_THAT(report.error().message, HasSubstr(kept()));
    EXPECT_FALSE(fs::exists(target()));
  }
  EXPECT_EQ(chunks_read(), 4U) << "the second one has found the first three";
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_EQ(chunks_read(), chunks);
  expect_tree(builder_.state(builder_.last()), kRootId, target());
  EXPECT_THAT(names_in(scratch_.path()), UnorderedElementsAre("target"));
}

TEST_F(RestoreResume, GoesOnAfterTheStoreFailed) {
  put_small_replica();
  store_.fail(Call::kGet, Errc::kRetry, 1, 2, "chunks/");
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kRetry);
  EXPECT_TRUE(fs::exists(kept("one.db")));
  store_.heal();
  // The first restore has fetched several at once; the one that failed may be the only one that is
  // left.
  store_.fail(Call::kGet, Errc::kDenied, 1, 0, "chunks/");
  const auto denied = restore(store_, target(), {});
  ASSERT_FALSE(denied.ok());
  EXPECT_EQ(denied.error().code, Errc::kDenied);
  EXPECT_TRUE(fs::exists(kept("one.db")));
  store_.heal();
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  expect_tree(builder_.state(builder_.last()), kRootId, target());
}

TEST_F(RestoreResume, KeepsNothingOfAReplicaThatIsDamaged) {
  put_small_replica();
  (void)restore_interrupted(store_, 3);
  ASSERT_TRUE(fs::exists(kept()));
  const std::string last = store_.keys("chunks/").back();
  store_.set_object(last, Bytes(10, 1));
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kDamaged);
  EXPECT_TRUE(names_in(scratch_.path()).empty());
}

TEST_F(RestoreResume, KeepsNothingIfNothingWasFetched) {
  put_small_replica();
  store_.fail(Call::kGet, Errc::kRetry, 100, 0, "chunks/");
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kRetry);
  EXPECT_TRUE(names_in(scratch_.path()).empty());
}

TEST_F(RestoreResume, TouchesNothingThatNoRestoreHasLeft) {
  put_small_replica();
  fs::create_directory(kept());
  std::ofstream(kept() + "/mine") << "mine";
  const auto report = restore(store_, target(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kConflict);
  EXPECT_THAT(report.error().message, HasSubstr(kept() + " is in the way"));
  EXPECT_THAT(names_in(kept()), UnorderedElementsAre("mine"));
}

TEST_F(RestoreResume, WaitsForNoOtherRestoreOfTheSameTarget) {
  put_small_replica();
  (void)restore_interrupted(store_, 3);
  const FileDescriptor other(::open(kept().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const auto report = restore(store_, target(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kConflict);
  EXPECT_THAT(report.error().message, HasSubstr("under way"));
  EXPECT_TRUE(fs::exists(kept("one.db")));
}

// Compaction removes what a plan needs once longer segments have taken its place for an hour.
TEST_F(RestoreResume, LooksAgainWhereASegmentHasBeenReplacedMeanwhile) {
  put_small_replica();
  Point text;
  text.changes = {content(101, 6000, 3)};
  builder_.add(text);
  builder_.seal();
  const auto at = [](uint64_t sequence) { return Position::of(1, sequence); };
  RestoreOptions options;
  options.threads = 1;
  bool replaced = false;
  const std::atomic<bool> stopping{false};
  options.progress = [&](const RestoreProgress&) {
    if (std::exchange(replaced, true)) return;
    std::vector<StoredObject> segments;
    for (const uint64_t i : {uint64_t{2}, uint64_t{3}}) {
      const std::string key = segment_key({at(i), at(i)});
      segments.push_back({{at(i), at(i)}, store_.objects().at(key).size(), 0});
    }
    ASSERT_TRUE(join_segments(store_, segments, 1, scratch_.path(), stopping).ok());
    for (const StoredObject& segment : segments) store_.erase_object(segment_key(segment.range));
  };
  const auto report = restore(store_, target(), options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_TRUE(replaced);
  expect_tree(builder_.state(builder_.last()), kRootId, target());
  EXPECT_EQ(chunks_read(), store_.keys("chunks/").size()) << "chunks are not fetched twice";
}

TEST_F(RestoreResume, FetchesAgainWhatIsNotedAndNotThere) {
  put_small_replica();
  (void)restore_interrupted(store_, 5);
  fs::resize_file(kept("one.db"), 0);
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_EQ(chunks_read(), 5 + store_.keys("chunks/").size());
  expect_tree(builder_.state(builder_.last()), kRootId, target());
}

TEST_F(RestoreResume, LosesNoMoreThanTheNotesThatAreDamaged) {
  put_small_replica();
  const size_t chunks = store_.keys("chunks/").size();
  (void)restore_interrupted(store_, 5);
  {
    std::fstream notes(kept() + "/walfs-proofs");
    notes.seekp(50);
    notes << "damage";
  }
  fs::resize_file(kept() + "/walfs-proofs", fs::file_size(kept() + "/walfs-proofs") - 1);
  (void)restore_interrupted(store_, 6);
  EXPECT_EQ(chunks_read(), 5U + 3U) << "two notes are lost";
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_EQ(chunks_read(), chunks + 2);
}

// Whatever was there: a restore for another point, with what somebody has done to it meanwhile.
class Leftovers {
 public:
  Leftovers(std::string directory, uint32_t seed)
      : directory_(std::move(directory)), random_(seed) {}

  void spoil() {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(directory_))
      paths.push_back(entry.path());
    for (const fs::path& path : paths) {
      if (random_() % 3 == 0 && fs::symlink_status(path).type() != fs::file_type::not_found)
        spoil(path);
    }
  }

 private:
  void spoil(const fs::path& path) {
    const bool is_file = fs::is_regular_file(fs::symlink_status(path));
    switch (random_() % 6) {
      case 0:
        fs::remove_all(path);
        return fs::create_symlink("/etc", path);
      case 1:
        fs::remove_all(path);
        return void(fs::create_directory(path));
      case 2:
        std::ofstream(path.parent_path() / "more") << "more";
        return;
      case 3:
        if (is_file) fs::resize_file(path, random_() % 10000);
        return;
      case 4:
        if (is_file) fs::create_hard_link(path, path.string() + "-link");
        return;
      default:
        if (is_file) overwrite(path);
    }
  }
  void overwrite(const fs::path& path) {
    std::fstream file(path);
    file.seekp(static_cast<std::streamoff>(random_() % 8192));
    file << "something else";
  }

  const std::string directory_;
  std::minstd_rand random_;
};

TEST_F(RestoreResume, MakesWhatThePointWantsWhateverWasLeft) {
  size_t went_on = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    test::MemoryStore store;
    test::ReplicaBuilder builder(store, seed);
    std::minstd_rand random(seed);
    for (int i = 0; i < 40; ++i) {
      builder.add();
      if (i % 7 == 6) builder.seal();
    }
    builder.seal();
    builder.put_snapshot(builder.start(), Position::of(1, 4));
    builder.put_snapshot(Position::of(1, 14), Position::of(1, 19));
    const auto some_point = [&] {
      return RestoreTarget{.position = Position::of(1, 4 + random() % 37), .time_ns = {}};
    };
    for (int i = 0; i < 5; ++i) {
      (void)restore_interrupted(store, 1 + random() % 20, some_point());
      fs::remove_all(target());
      if (!fs::exists(kept())) continue;
      ++went_on;
      if (random() % 2 == 0) Leftovers(kept() + "/walfs-files", seed + random()).spoil();
    }
    RestoreOptions options;
    options.target = some_point();
    const auto report = restore(store, target(), options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    expect_tree(builder.state(*options.target.position), kRootId, target());
    EXPECT_THAT(names_in(scratch_.path()), UnorderedElementsAre("target"));
    fs::remove_all(target());
  }
  EXPECT_GT(went_on, 50U);
}

}  // namespace
}  // namespace walfs
