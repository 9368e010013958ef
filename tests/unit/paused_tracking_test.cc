// A server that captures nothing and only notes what is touched, and the one after it, which finds
// all of it by comparing (I7).
#include <gtest/gtest.h>

#include <random>

#include "tests/support/tracked_databases.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace walfs::test {
namespace {

std::vector<std::string> compared_after_pause(TrackedDirectory& directory) {
  directory.resume_after_pause();
  std::vector<std::string> names;
  // One with a journal that stays beside it is compared after any death.
  for (const UnreadFile& file : directory.scan().unread)
    if (file.path != "persist.db") names.push_back(file.path);
  std::sort(names.begin(), names.end());
  directory.finish_first_upload();
  return names;
}

void expect_all_is_found(TrackedDirectory& directory) {
  directory.sync();
  directory.expect_all_restored();
}

using Names = std::vector<std::string>;

class PausedTracking : public testing::Test {
 protected:
  PausedTracking() {
    for (const char* name : {"a", "b", "c"}) directory_.mount().put(name, std::string(9000, *name));
    for (const char* mode : {"wal", "delete", "truncate", "persist"}) {
      databases_.open(std::string(mode) + ".db", "PRAGMA journal_mode=" + std::string(mode));
      databases_.exec(std::string(mode) + ".db", "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    }
    databases_.close("wal.db");  // Without a log, and so not in use.
    directory_.sync();
    directory_.seal();
  }

  TrackedDirectory directory_;
  TrackedDatabases databases_{directory_};
};

TEST_F(PausedTracking, TouchesNothingThatIsOnlyLookedAt) {
  directory_.pause();
  const NodeId node = directory_.mount().open("a");
  EXPECT_EQ(directory_.mount().read(node, 0, 1).size(), 1U);
  directory_.mount().close(node);
  EXPECT_EQ(databases_.exec("delete.db", "SELECT count(*) FROM t"), "1");
  EXPECT_EQ(compared_after_pause(directory_), Names{});
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, FindsWhatWasWrittenTruncatedAndCreated) {
  directory_.pause();
  const NodeId node = directory_.mount().open("a");
  directory_.mount().write(node, 100, "written");
  directory_.mount().close(node);
  const NodeId shorter = directory_.mount().open("b");
  directory_.mount().truncate(shorter, 5);
  directory_.mount().close(shorter);
  directory_.mount().put("new", "new");
  EXPECT_EQ(compared_after_pause(directory_), (Names{"a", "b", "new"}));
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, FindsNewNames) {
  directory_.pause();
  directory_.mount().rename("a", "moved");
  directory_.mount().unlink("b");
  directory_.mount().make_directory("directory");
  directory_.mount().make_symlink("c", "symlink");
  directory_.mount().link("c", "directory/link");
  directory_.mount().rename("moved", "c", RENAME_EXCHANGE);
  compared_after_pause(directory_);
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, FindsANewFileWithTheInodeOfARemovedOne) {
  directory_.pause();
  for (int i = 0; i < 20; ++i) {
    for (const char* name : {"a", "b", "c"}) {
      directory_.mount().unlink(name);
      directory_.mount().put(name, std::string(9000, static_cast<char>('A' + i)));
    }
  }
  EXPECT_EQ(compared_after_pause(directory_), (Names{"a", "b", "c"}));
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, FindsADatabaseByEachOfItsJournals) {
  for (const char* mode : {"delete", "truncate", "persist"}) {
    directory_.pause();
    databases_.exec(std::string(mode) + ".db", "INSERT INTO t VALUES(randomblob(9000))");
    const Names names = compared_after_pause(directory_);
    EXPECT_EQ(names, mode == std::string("persist") ? Names{} : Names{mode + std::string(".db")});
    expect_all_is_found(directory_);
  }
}

// The log came, was checkpointed and went: only its database is left to tell.
TEST_F(PausedTracking, FindsADatabaseWhoseLogHasComeAndGone) {
  directory_.pause();
  databases_.open("wal.db");
  databases_.exec("wal.db", "INSERT INTO t VALUES(randomblob(9000))");
  databases_.close("wal.db");
  ASSERT_FALSE(directory_.mount().exists("wal.db-wal"));
  EXPECT_EQ(compared_after_pause(directory_), Names{"wal.db"});
  expect_all_is_found(directory_);
}

// What was in it is gone with it: the state of the database is another one.
TEST_F(PausedTracking, FindsADatabaseWhoseLogWasThrownAway) {
  databases_.open("wal.db");
  databases_.exec("wal.db", "INSERT INTO t VALUES(randomblob(9000))");
  directory_.sync();
  directory_.seal();
  directory_.pause();
  directory_.mount().unlink("wal.db-wal");
  EXPECT_EQ(compared_after_pause(directory_), Names{"wal.db"});
  databases_.die();
}

// By a server that knows neither of them from a lookup.
TEST_F(PausedTracking, FindsTheDatabaseOfALogThatWasOpenBefore) {
  databases_.open("wal.db");
  databases_.exec("wal.db", "INSERT INTO t VALUES(randomblob(9000))");
  databases_.exec("wal.db", "PRAGMA wal_checkpoint(TRUNCATE)");
  directory_.sync();
  directory_.seal();
  directory_.pause();
  databases_.exec("wal.db", "INSERT INTO t VALUES(randomblob(900))");
  EXPECT_EQ(compared_after_pause(directory_), Names{"wal.db"});
  databases_.close("wal.db");
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, FindsADatabaseThatWasReplaced) {
  directory_.pause();
  databases_.close("delete.db");
  databases_.open("other.db", "PRAGMA journal_mode=DELETE");
  databases_.exec("other.db", "CREATE TABLE u(a); INSERT INTO u VALUES(randomblob(9000))");
  databases_.close("other.db");
  directory_.mount().rename("other.db", "delete.db");
  compared_after_pause(directory_);
  expect_all_is_found(directory_);
}

TEST_F(PausedTracking, KnowsThatThereWereTooManyToBeListed) {
  directory_.pause();
  const auto table = std::make_unique<TouchedFiles::Table>();
  TouchedObserver observer(*table, -1, false);
  for (uint64_t inode = 1; inode <= TouchedFiles::kFilesMax + 1; ++inode) {
    struct stat attributes {};
    attributes.st_ino = inode;
    TrackedFile* const file = observer.attach(-1, attributes, nullptr, "name");
    observer.before_write(file, 0, {});
    observer.detach(file);
  }
  EXPECT_TRUE(TouchedFiles(*table).everything());
}

// Pauses and deaths at any time: in the end the replica is what the directory is.
TEST(PausedTrackingRandomly, LosesNothing) {
  for (const uint32_t seed : seeds(8)) {
    SCOPED_TRACE(seed);
    std::minstd_rand random(seed);
    TrackedDirectory directory({.page_cache = seed % 2 == 0, .seed = seed});
    TrackedDatabases databases(directory);
    const char* const modes[] = {"wal", "delete", "truncate", "persist"};
    for (const char* mode : modes) {
      databases.open(mode, "PRAGMA journal_mode=" + std::string(mode));
      databases.exec(mode, "CREATE TABLE t(a)");
    }
    bool paused = false;
    for (int step = 0; step < 60; ++step) {
      const std::string name = "f" + std::to_string(random() % 5);
      const char* const mode = modes[random() % 4];
      switch (random() % 10) {
        case 0:
          if (std::exchange(paused, !paused)) {
            compared_after_pause(directory);
          } else {
            directory.pause();
          }
          break;
        case 1:
          if (!paused && directory.cut()) directory.seal();
          break;
        case 2:
          if (directory.mount().exists(name)) directory.mount().unlink(name);
          break;
        case 3:
          if (directory.mount().exists(name)) directory.mount().rename(name, "g" + name);
          break;
        case 4:
          if (databases.is_open(mode)) {
            databases.close(mode);
          } else {
            databases.open(mode);
          }
          break;
        case 5:
        case 6:
          directory.mount().put(name,
                                std::string(random() % 50'000, static_cast<char>('a' + step % 26)));
          break;
        default:
          if (databases.is_open(mode))
            databases.exec(
                mode, "INSERT INTO t VALUES(randomblob(" + std::to_string(random() % 9000) + "))");
      }
    }
    if (paused) compared_after_pause(directory);
    databases.close_all();
    expect_all_is_found(directory);
  }
}

}  // namespace
}  // namespace walfs::test
