#include "replicator/restore.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/support/replica_builder.h"
#include "tests/support/restored_model.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

namespace fs = std::filesystem;
using test::expect_tree;
using test::names_in;
using test::read_whole;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class RestoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "owners can be given by root only";
  }
  std::string target() const { return scratch_.path("target"); }
  static RestoreOptions to(Position position) {
    RestoreOptions options;
    options.target.position = position;
    return options;
  }

  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
};

TEST_F(RestoreTest, MakesTheWholeDirectoryAsItWasAtAnyPoint) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    test::MemoryStore store;
    test::ReplicaBuilder builder(store, seed);
    for (int i = 0; i < 40; ++i) {
      builder.add();
      if (i % 7 == 6) builder.seal();
    }
    builder.seal();
    builder.put_snapshot(builder.start(), Position::of(1, 4));
    builder.put_snapshot(Position::of(1, 14), Position::of(1, 19));
    for (const uint64_t sequence : {uint64_t{4}, uint64_t{15}, uint64_t{19}, uint64_t{40}}) {
      const test::ScratchDirectory scratch;
      const Position position = Position::of(1, sequence);
      const auto report = restore(store, scratch.path("target"), to(position));
      ASSERT_TRUE(report.ok()) << seed << " " << sequence << ": " << report.error().message;
      EXPECT_EQ(report->position, position);
      EXPECT_EQ(report->time_ns, test::ReplicaBuilder::time_of(position));
      expect_tree(builder.state(position), kRootId, scratch.path("target"));
    }
  }
}

// A replica with a database in chunks and a file in the log, for what may go wrong.
class SmallReplica : public RestoreTest {
 protected:
  SmallReplica() : builder_(store_, 7) {
    Attributes attributes;
    attributes.mode = 0644;
    attributes.xattrs = {{"user.colour", "blue"}};
    Attributes directory;
    directory.type = FileType::kDirectory;
    directory.mode = 0755;
    Point names;
    names.changes = {SetFile{100, attributes},          SetFile{101, attributes},
                     SetFile{102, directory},           SetEntry{kRootId, "one.db", 100},
                     SetEntry{kRootId, "dir", 102},     SetEntry{102, "two.txt", 101},
                     SetEntry{kRootId, "also.db", 100}, content(100, 1)};
    builder_.add(names);
    builder_.seal();
    Point text;
    text.changes = {content(101, 2)};
    builder_.add(text);
    builder_.seal();
    builder_.put_snapshot(at(1), at(2));
  }
  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  SetContent content(FileId id, uint8_t seed) {
    Bytes bytes(5000);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(seed + i / 1024);
    SetContent change = builder_.log().difference(id, bytes, 1024);
    test::ModelFile file;
    file.block_size = 1024;
    file.content = bytes;
    change.checksum = model_checksum(file);
    change.database = id == 100;
    return change;
  }
  const Bytes& model_content(FileId id) { return builder_.state(at(2)).files.at(id).content; }
  void replace_snapshot(const Snapshot& snapshot) {
    store_.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  }
  std::string segment() const { return segment_key({at(2), at(2)}); }
  // Nothing is there and nothing was left behind.
  void expect_untouched() {
    EXPECT_TRUE(names_in(scratch_.path()).empty()) << names_in(scratch_.path())[0];
  }
  // A directory with something in it.
  void occupy() {
    fs::create_directories(target() + "/sub");
    test::write_whole(target() + "/sub/old", as_bytes("old"));
  }
  void expect_occupied() {
    EXPECT_THAT(names_in(scratch_.path()), UnorderedElementsAre("target"));
    EXPECT_THAT(names_in(target()), UnorderedElementsAre("sub"));
    EXPECT_EQ(as_text(read_whole(target() + "/sub/old")), "old");
  }

  test::ReplicaBuilder builder_;
};

TEST_F(SmallReplica, IsRestoredWithItsHardLinksAndExtendedAttributes) {
  const auto report = restore(store_, target(), {});
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->files, 2U);
  EXPECT_EQ(report->databases, 1U);
  EXPECT_EQ(report->bytes, 10000U);
  EXPECT_TRUE(fs::equivalent(target() + "/one.db", target() + "/also.db"));
  char value[16] = {};
  const std::string path = target() + "/dir/two.txt";
  ASSERT_EQ(::getxattr(path.c_str(), "user.colour", value, sizeof(value)), 4);
  EXPECT_STREQ(value, "blue");
  EXPECT_THAT(names_in(scratch_.path()), UnorderedElementsAre("target"));
}

TEST_F(SmallReplica, IsRestoredIntoAnEmptyDirectory) {
  scratch_.make("target");
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_EQ(read_whole(target() + "/one.db"), model_content(100));
}

TEST_F(SmallReplica, IsNotRestoredOverADirectoryThatIsNotEmpty) {
  occupy();
  const auto report = restore(store_, target(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kUsage);
  EXPECT_THAT(report.error().message, HasSubstr("--force"));
  expect_occupied();
  EXPECT_EQ(store_.count(test::Call::kGet, "chunks/"), 0U);
}

TEST_F(SmallReplica, ReplacesADirectoryThatIsNotEmptyWithForce) {
  occupy();
  RestoreOptions options;
  options.force = true;
  ASSERT_TRUE(restore(store_, target(), options).ok());
  EXPECT_THAT(names_in(scratch_.path()), UnorderedElementsAre("target"));
  EXPECT_THAT(names_in(target()), UnorderedElementsAre("one.db", "also.db", "dir"));
}

TEST_F(SmallReplica, ReplacesNothingThatWasPutThereMeanwhile) {
  fs::create_directory(target());
  RestoreOptions options;
  options.progress = [&](const RestoreProgress&) {
    test::write_whole(target() + "/new", as_bytes("new"));
  };
  const auto report = restore(store_, target(), options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kConflict);
  EXPECT_THAT(report.error().message, HasSubstr("not empty any more"));
  EXPECT_THAT(names_in(target()), UnorderedElementsAre("new"));
}

TEST_F(SmallReplica, KeepsTheOldContentUntilTheEndWithForce) {
  occupy();
  RestoreOptions options;
  options.force = true;
  bool seen = false;
  options.progress = [&](const RestoreProgress& progress) {
    seen = true;
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    EXPECT_EQ(as_text(read_whole(target() + "/sub/old")), "old");
  };
  ASSERT_TRUE(restore(store_, target(), options).ok());
  EXPECT_TRUE(seen);
  EXPECT_FALSE(fs::exists(target() + "/sub/old"));
}

TEST_F(SmallReplica, LeavesTheTargetAsItWasWhenAnObjectIsDamaged) {
  for (const std::string& key : {store_.keys("chunks/")[0], segment()}) {
    const Bytes whole = store_.objects().at(key);
    store_.flip(key, 36);
    EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kDamaged);
    expect_untouched();
    occupy();
    RestoreOptions options;
    options.force = true;
    const auto report = restore(store_, target(), options);
    ASSERT_FALSE(report.ok());
    EXPECT_THAT(report.error().message, HasSubstr(key));
    expect_occupied();
    fs::remove_all(target());
    store_.set_object(key, whole);
  }
}

TEST_F(SmallReplica, LeavesTheTargetAsItWasWhenAnObjectIsMissing) {
  store_.erase_object(store_.keys("chunks/")[0]);
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kNothingThere);
  expect_untouched();
}

TEST_F(SmallReplica, LeavesTheTargetAsItWasWhenTheStoreFails) {
  for (const auto call : {test::Call::kList, test::Call::kGet, test::Call::kGetRange}) {
    for (size_t skip = 0; skip < 2; ++skip) {
      store_.fail(call, Errc::kDenied, 1, skip);
      const auto report = restore(store_, target(), {});
      ASSERT_FALSE(report.ok());
      EXPECT_EQ(report.error().code, Errc::kDenied);
      expect_untouched();
      store_.heal();
    }
  }
}

TEST_F(SmallReplica, IsRefusedWhenADatabaseDoesNotHaveItsChecksum) {  // I6
  Snapshot snapshot = builder_.make_snapshot(at(1), at(2));
  for (SnapshotFile& file : snapshot.files) {
    if (file.id == 100) file.checksum += 1;
  }
  replace_snapshot(snapshot);
  const auto report = restore(store_, target(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kDamaged);
  EXPECT_THAT(report.error().message, HasSubstr("also.db"));
  expect_untouched();
}

TEST_F(SmallReplica, IsRefusedWhenABlockIsMissingFromItsSnapshot) {  // I6
  Snapshot snapshot = builder_.make_snapshot(at(1), at(2));
  for (SnapshotFile& file : snapshot.files) {
    if (!file.extents.empty()) file.extents.pop_back();
  }
  replace_snapshot(snapshot);
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kDamaged);
  expect_untouched();
}

TEST_F(SmallReplica, IsRefusedWhenItsDirectoriesMakeNoTree) {
  Snapshot snapshot = builder_.make_snapshot(at(1), at(2));
  snapshot.entries.push_back({102, "up", kRootId});
  replace_snapshot(snapshot);
  EXPECT_EQ(restore(store_, target(), {}).error().code, Errc::kDamaged);
  expect_untouched();
}

TEST_F(SmallReplica, LeadsThroughNoSymbolicLink) {
  const std::string outside = scratch_.make("outside");
  Snapshot snapshot = builder_.make_snapshot(at(1), at(2));
  for (SnapshotFile& file : snapshot.files) {
    if (file.id != 102) continue;
    file.attributes.type = FileType::kSymlink;
    file.attributes.symlink_target = outside;
  }
  replace_snapshot(snapshot);
  // A symbolic link has no entries, whatever the snapshot says.
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_TRUE(names_in(outside).empty());
}

TEST_F(SmallReplica, IsNotRestoredWhenItIsCancelled) {
  std::atomic<bool> cancelled{true};
  RestoreOptions options;
  options.cancelled = &cancelled;
  const auto report = restore(store_, target(), options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kCancelled);
  expect_untouched();
}

TEST_F(SmallReplica, IsRestoredInPartByNamesAndPatterns) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"one.db", {"one.db"}},
      {"*.db", {"one.db", "also.db"}},
      {"dir", {"dir", "dir/two.txt"}},
      {"dir/*.txt", {"dir", "dir/two.txt"}}};
  for (const auto& [pattern, expected] : cases) {
    RestoreOptions options;
    options.only = {pattern};
    ASSERT_TRUE(restore(store_, target(), options).ok()) << pattern;
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(target())) {
      found.push_back(fs::relative(entry.path(), target()));
    }
    EXPECT_THAT(found, ::testing::UnorderedElementsAreArray(expected)) << pattern;
    fs::remove_all(target());
  }
}

TEST_F(SmallReplica, ReadsOnlyTheObjectsOfThePartThatIsWanted) {
  RestoreOptions options;
  options.only = {"dir/two.txt"};
  ASSERT_TRUE(restore(store_, target(), options).ok());
  EXPECT_EQ(store_.count(test::Call::kGet, "chunks/"), 0U);
}

TEST_F(SmallReplica, SaysThatNothingMatches) {
  RestoreOptions options;
  options.only = {"three*"};
  const auto report = restore(store_, target(), options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kNothingThere);
  EXPECT_THAT(report.error().message, HasSubstr("--only"));
  expect_untouched();
}

TEST_F(SmallReplica, IsNotRestoredToAFileAMountPointOrANameWithoutAParent) {
  test::write_whole(scratch_.path("file"), as_bytes("x"));
  for (const std::string& bad :
       {scratch_.path("file"), std::string("/proc"), std::string(), scratch_.path("no/where")}) {
    RestoreOptions options;
    options.force = true;
    const auto report = restore(store_, bad, options);
    ASSERT_FALSE(report.ok()) << bad;
    EXPECT_EQ(report.error().code, Errc::kUsage) << bad;
  }
  EXPECT_EQ(as_text(read_whole(scratch_.path("file"))), "x");
}

TEST_F(SmallReplica, IsRestoredToWhereASymbolicLinkLeads) {
  scratch_.make("real");
  fs::create_directory_symlink(scratch_.path("real"), target());
  ASSERT_TRUE(restore(store_, target(), {}).ok());
  EXPECT_TRUE(fs::is_symlink(target()));
  EXPECT_TRUE(fs::exists(scratch_.path("real") + "/one.db"));
}

TEST_F(RestoreTest, OfAnEmptyStoreSaysSoAndTouchesNothing) {
  const auto report = restore(store_, target(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Errc::kNothingThere);
  EXPECT_FALSE(fs::exists(target()));
}

}  // namespace
}  // namespace walfs
