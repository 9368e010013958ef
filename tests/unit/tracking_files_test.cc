// Ordinary files, names and attributes through the tracker (I8), and a log that cannot be written
// (I7).
#include <gtest/gtest.h>
#include <linux/fs.h>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

class TrackingFiles : public ::testing::Test {
 protected:
  TrackedMount& mount() { return directory.mount(); }
  // The tree at the newest point.
  Tree newest() {
    directory.cut();
    directory.seal();
    return directory.restored_tree(directory.log().sealed());
  }
  void expect_all() {
    directory.sync();
    directory.expect_all_restored();
  }
  // The content of a file at each point, "-" where it is not there.
  std::vector<std::string> contents(const std::string& path) {
    directory.seal();
    std::vector<std::string> found;
    for (const Position position : directory.positions()) {
      const Tree tree = directory.restored_tree(position);
      const auto file = tree.find(path);
      const std::string content = file != tree.end() ? file->second.content : "-";
      if (found.empty() || found.back() != content) found.push_back(content);
    }
    return found;
  }
  TrackedDirectory directory;
};

TEST_F(TrackingFiles, AFileIsInThePointAfterItWasClosed) {
  mount().put("a", "content");
  EXPECT_EQ(newest().at("a").content, "content");
}

// I8: a file that is renamed into place is never there without its content.
TEST_F(TrackingFiles, TheContentIsThereBeforeTheName) {
  mount().put("a", "old");
  directory.cut();
  for (const std::string content : {"new", "newer"}) {
    const NodeId node = mount().open("a.tmp");
    directory.cut();
    mount().write(node, 0, content);
    directory.cut();
    mount().rename("a.tmp", "a");
    directory.cut();
    mount().close(node);
    directory.cut();
  }
  EXPECT_EQ(contents("a"), (std::vector<std::string>{"-", "old", "new", "newer"}));
  expect_all();
}

TEST_F(TrackingFiles, WhatCameAndWentBetweenTwoCutsLeavesNothing) {
  const uint64_t before = directory.log().last().value;
  mount().put("a", "content");
  mount().make_directory("d");
  mount().put("d/b", "content");
  mount().unlink("d/b");
  mount().unlink("d", true);
  mount().unlink("a");
  const Tree tree = newest();
  EXPECT_EQ(tree.size(), 1u);
  EXPECT_LE(directory.log().last().value, before + 1);
}

TEST_F(TrackingFiles, HardLinksAreOneFile) {
  mount().put("a", "content");
  mount().link("a", "b");
  directory.cut();
  mount().append("b", " and more");
  Tree tree = newest();
  EXPECT_EQ(tree.at("a").content, "content and more");
  EXPECT_EQ(tree.at("a").twin, tree.at("b").twin);
  mount().unlink("a");
  directory.cut();
  mount().append("b", "!");
  tree = newest();
  EXPECT_EQ(tree.at("b").content, "content and more!");
  EXPECT_FALSE(tree.contains("a"));
  expect_all();
}

TEST_F(TrackingFiles, TwoFilesMayBeExchanged) {
  mount().put("a", "first");
  mount().make_directory("d");
  mount().put("d/b", "second");
  directory.cut();
  mount().rename("a", "d/b", RENAME_EXCHANGE);
  directory.cut();
  mount().append("a", "!");
  const Tree tree = newest();
  EXPECT_EQ(tree.at("a").content, "second!");
  EXPECT_EQ(tree.at("d/b").content, "first");
  mount().rename("a", "d", RENAME_EXCHANGE);
  EXPECT_EQ(newest().at("a/b").content, "first");
  expect_all();
}

TEST_F(TrackingFiles, ARenamedDirectoryKeepsWhatIsInIt) {
  mount().make_directory("d");
  mount().make_directory("d/e");
  mount().put("d/e/a", "content");
  directory.cut();
  mount().rename("d", "f");
  mount().append("f/e/a", "!");
  mount().make_directory("d");
  mount().put("d/e", "a file now");
  const Tree tree = newest();
  EXPECT_EQ(tree.at("f/e/a").content, "content!");
  EXPECT_EQ(tree.at("d/e").content, "a file now");
  expect_all();
}

TEST_F(TrackingFiles, AttributesComeBack) {
  mount().put("a", "content");
  mount().make_symlink("nowhere/at all", "s");
  mount().make_directory("d");
  directory.cut();
  const NodeId node = mount().find("a");
  mount().change(node, {.valid = AttributeChange::kMode, .mode = 04751});
  mount().change(
      node, {.valid = AttributeChange::kUid | AttributeChange::kGid, .uid = 1234, .gid = 4321});
  mount().change(node, {.valid = AttributeChange::kMtime, .mtime = {12345, 678}});
  mount().change(mount().find("d"), {.valid = AttributeChange::kMode, .mode = 01770});
  const std::string value = "value";
  const ByteView bytes(reinterpret_cast<const uint8_t*>(value.data()), value.size());
  const bool xattrs = mount().operations().set_xattr(node, "user.test", bytes, 0) == 0;
  const Tree tree = newest();
  EXPECT_EQ(tree.at("a").mode & 07777, 0751u);  // chown took the suid bit away.
  EXPECT_EQ(tree.at("a").uid, 1234u);
  EXPECT_EQ(tree.at("a").gid, 4321u);
  EXPECT_EQ(tree.at("a").mtime_ns, 12345'000'000'678);
  EXPECT_EQ(tree.at("s").content, "nowhere/at all");
  EXPECT_EQ(tree.at("d").mode & 07777, 01770u);
  if (xattrs) {
    EXPECT_EQ(tree.at("a").xattrs.at("user.test"), value);
  }
  expect_all();
}

TEST_F(TrackingFiles, AFileWithoutANameIsGoneThoughItIsOpen) {
  const NodeId node = mount().open("a");
  mount().write(node, 0, "content");
  directory.cut(true);
  mount().unlink("a");
  mount().write(node, 0, "CONTENT");
  mount().sync(node);
  EXPECT_FALSE(newest().contains("a"));
  // Another one takes the name, and perhaps the number.
  mount().put("a", "another");
  EXPECT_EQ(newest().at("a").content, "another");
  mount().write(node, 0, "nobody sees this");
  mount().close(node);
  mount().drop_caches();
  EXPECT_EQ(newest().at("a").content, "another");
  expect_all();
}

TEST_F(TrackingFiles, NumbersOfInodesAreGivenAgain) {
  for (int i = 0; i < 20; ++i) {
    mount().put("a", "content " + std::to_string(i));
    if (i % 3 == 0) directory.cut();
    mount().unlink("a");
    mount().drop_caches();
    if (i % 4 == 0) directory.cut();
    mount().put("b" + std::to_string(i), "other " + std::to_string(i));
  }
  expect_all();
}

TEST_F(TrackingFiles, BlocksWithinAFileChange) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += static_cast<char>('a' + i % 23);
  mount().put("a", content);
  directory.cut();
  const uint64_t sent = directory.store.objects().size();
  EXPECT_GT(sent, 0u);
  const NodeId node = mount().open("a");
  mount().write(node, 50'000, "IN THE MIDDLE");
  mount().sync(node);
  directory.cut();
  mount().truncate(node, 40'000);
  mount().write(node, 120'000, "BEHIND A HOLE");
  mount().sync(node);
  directory.cut();
  EXPECT_EQ(mount().operations().allocate(node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192,
                                          20'000, false),
            0);
  mount().sync(node);
  directory.cut();
  mount().truncate(node, 30'001);
  mount().truncate(node, 70'000);
  mount().close(node);
  expect_all();
}

TEST_F(TrackingFiles, AFileThatIsWrittenAllTheTimeIsTakenWhenSomebodyWaits) {
  const NodeId node = mount().open("log");
  for (int i = 0; i < 5; ++i) {
    mount().write(node, mount().size(node), "line\n");
    directory.cut();
  }
  directory.sync();
  directory.expect_all_restored();
  mount().close(node);
}

// ---- Names like those of companions.

TEST_F(TrackingFiles, WithoutADatabaseFilesNamedLikeCompanionsAreOrdinary) {
  mount().put("a-wal", "not a log");
  mount().put("b", "not a database");
  mount().put("b-wal", "not a log");
  mount().put("b-journal", "not a journal");
  mount().put("b-shm", "not shared");
  const Tree tree = newest();
  EXPECT_EQ(tree.at("a-wal").content, "not a log");
  EXPECT_EQ(tree.at("b-journal").content, "not a journal");
  expect_all();
}

// I8: and the way back.
TEST_F(TrackingFiles, FilesBecomeCompanionsWhenADatabaseComesAndOrdinaryWhenItGoes) {
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=DELETE");
  databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(3000))");
  databases.close("x.db");
  const std::string database = mount().content("x.db");
  mount().put("b", "not a database");
  mount().put("b-journal", "left from something else");
  directory.cut();
  EXPECT_EQ(newest().at("b-journal").content, "left from something else");

  // The base becomes a database.
  mount().put("b", database);
  for (int i = 0; i < 4; ++i) directory.cut();
  Tree tree = newest();
  EXPECT_EQ(tree.at("b").content, database);
  EXPECT_FALSE(tree.contains("b-journal"));
  // And stops being one.
  mount().put("b", "not a database again");
  for (int i = 0; i < 4; ++i) directory.cut();
  tree = newest();
  EXPECT_EQ(tree.at("b").content, "not a database again");
  ASSERT_TRUE(tree.contains("b-journal"));
  EXPECT_EQ(tree.at("b-journal").content, "left from something else");
  expect_all();
}

TEST_F(TrackingFiles, AFileMayTakeACompanionsNameAndAnother) {
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=DELETE");
  databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(3000))");
  databases.close("x.db");
  directory.cut();
  mount().put("a", "just a file, not a journal");
  EXPECT_TRUE(newest().contains("a"));
  mount().rename("a", "x.db-journal");
  EXPECT_FALSE(newest().contains("x.db-journal"));
  mount().rename("x.db-journal", "a");
  ASSERT_TRUE(newest().contains("a"));
  EXPECT_EQ(newest().at("a").content, "just a file, not a journal");
  mount().rename("a", "x.db-wal");
  directory.cut();
  mount().append("x.db-wal", "; longer");
  directory.cut();
  mount().rename("x.db-wal", "c");
  EXPECT_EQ(newest().at("c").content, "just a file, not a journal; longer");
  expect_all();
}

TEST_F(TrackingFiles, ADatabaseThatIsRenamedComesToCompanionsThatWereOrdinary) {
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=DELETE");
  databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(3000))");
  databases.close("x.db");
  mount().put("y.db-wal", "an ordinary file so far");
  directory.cut();
  EXPECT_TRUE(newest().contains("y.db-wal"));
  mount().rename("x.db", "y.db");
  for (int i = 0; i < 3; ++i) directory.cut();
  EXPECT_FALSE(newest().contains("y.db-wal"));
  // The database goes; what is left is an ordinary file once somebody looks at it.
  mount().unlink("y.db");
  directory.cut();
  directory.restart();
  expect_all();
}

// ---- A log that cannot be written.

// I7: nothing is lost, and it goes on later.
TEST_F(TrackingFiles, WithoutRoomForTheLogEverythingWaits) {
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=WAL");
  databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(3000))");
  mount().put("a", "old");
  directory.cut();
  directory.seal();
  const Position before = directory.log().last();
  // A directory in the place of the open segment: it cannot be made.
  std::filesystem::create_directory(directory.spool() + "/open.tmp");
  for (int i = 0; i < 3; ++i) {
    databases.exec("x.db", "INSERT INTO t VALUES(randomblob(3000))");
    mount().put("a", "new " + std::to_string(i));
    mount().put("b" + std::to_string(i), "content");
    if (i == 1) mount().unlink("b0");
    EXPECT_FALSE(directory.cut());
    EXPECT_TRUE(directory.log_error());
    databases.exec("x.db", "PRAGMA wal_checkpoint(RESTART)");
  }
  EXPECT_EQ(directory.log().last(), before);
  std::filesystem::remove(directory.spool() + "/open.tmp");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(directory.cut());
  databases.expect_newest_restored();
  databases.expect_points_are_states();
  databases.close_all();
  expect_all();
}

// Whatever is done, in whatever order, the directory comes back whole.
TEST_F(TrackingFiles, RandomWorkComesBack) {
  const std::vector<std::string> names = {"a",     "b",     "c",         "d/a", "d/b",
                                          "a-wal", "b-shm", "b-journal", "e/a", "d/c-wal"};
  for (const uint32_t seed : seeds(12)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TrackedDirectory work({.page_cache = seed % 2 == 0, .seed = seed});
    TrackedMount* files = &work.mount();
    files->make_directory("d");
    files->make_directory("e");
    std::mt19937 random(seed);
    const auto text = [&] { return std::string(random() % 50'000, static_cast<char>(random())); };
    std::string trace;
    for (int step = 0; step < 120; ++step) {
      const std::string one = names[random() % names.size()];
      const std::string other = names[random() % names.size()];
      const bool there = files->exists(one);
      const unsigned choice = random() % 11;
      trace += std::to_string(choice) + ":" + one + "," + other + " ";
      switch (choice) {
        case 0:
          files->put(one, text());
          break;
        case 1:
          files->append(one, text());
          break;
        case 2:
          if (there) files->unlink(one);
          break;
        case 3:
          if (there && one != other) files->rename(one, other);
          break;
        case 4:
          if (there && !files->exists(other)) files->link(one, other);
          break;
        case 5:
          if (there && files->exists(other) && one != other)
            files->rename(one, other, RENAME_EXCHANGE);
          break;
        case 6:
          if (there) files->truncate(files->find(one), random() % 60'000);
          break;
        case 7:
          if (there) {
            files->change(files->find(one), {.valid = AttributeChange::kMode,
                                             .mode = static_cast<mode_t>(random() % 01000)});
          }
          break;
        case 8:
          files->drop_caches();
          break;
        case 9:
          if (random() % 6 == 0) {
            work.restart();
            files = &work.mount();
          }
          break;
        default:
          work.cut(random() % 2 == 0);
      }
      if (step % 30 == 29) {
        work.sync();
        work.expect_all_restored();
        if (HasFailure()) FAIL() << trace;
      }
    }
  }
}

}  // namespace
}  // namespace walfs::test
