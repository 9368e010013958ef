// A server that takes the place of one that died: what the log lacks is found, and no more is read
// than what was touched.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

void write_file(TrackedDirectory& directory, const std::string& name, const std::string& text) {
  directory.mount().put(name, text);
}

std::vector<std::string> unread_names(const TrackedDirectory& directory) {
  std::vector<std::string> names;
  for (const UnreadFile& file : directory.scan().unread) names.push_back(file.path);
  std::sort(names.begin(), names.end());
  return names;
}

void die_and_resume(TrackedDirectory& directory) {
  directory.abandon();
  directory.resume();
  directory.finish_first_upload();
}

TEST(TrackingResume, OnlyFilesThatWereTouchedSinceTheLastSealAreRead) {
  TrackedDirectory directory;
  for (int i = 0; i < 20; ++i)
    write_file(directory, "file" + std::to_string(i), "content " + std::to_string(i));
  directory.sync();
  directory.seal();
  write_file(directory, "file7", "changed");
  write_file(directory, "new", "new");
  die_and_resume(directory);
  EXPECT_EQ(unread_names(directory), (std::vector<std::string>{"file7", "new"}));
  directory.sync();
  directory.expect_all_restored();
  // And these are not read a second time.
  die_and_resume(directory);
  EXPECT_EQ(unread_names(directory), std::vector<std::string>{});
}

// I2: no commit that reached the files is missing, and the store keeps what it has.
TEST(TrackingResume, ADatabaseIsAsItWasAtItsLastCommit) {
  for (const char* mode : {"WAL", "DELETE"}) {
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    databases.open("x.db");
    databases.exec("x.db", std::string("PRAGMA journal_mode=") + mode);
    databases.exec("x.db", "CREATE TABLE t(a)");
    for (int i = 0; i < 30; ++i) databases.exec("x.db", "INSERT INTO t VALUES(randomblob(900))");
    directory.sync();
    const Position before = directory.log().sealed();
    for (int i = 0; i < 30; ++i) databases.exec("x.db", "INSERT INTO t VALUES(randomblob(900))");
    directory.cut();
    databases.close("x.db");
    die_and_resume(directory);
    EXPECT_EQ(directory.writer().start, before) << mode;
    EXPECT_EQ(directory.writer().epoch.number, before.epoch()) << mode;
    directory.sync();
    directory.expect_all_restored();
    EXPECT_EQ(directory.positions().front().epoch(), directory.positions().back().epoch());
  }
}

bool insert_and_cut(TrackedDirectory& directory, TrackedDatabases& databases) {
  databases.exec("x.db", "INSERT INTO t VALUES(randomblob(900))");
  return directory.cut();
}

// I5: a server that does not know of syncs before it need not wait for a pause once it has seen a
// checkpoint that was synced.
TEST(TrackingResume, ADatabaseThatNeverPausesIsTrustedAfterACheckpointThatWasSynced) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0");
  databases.exec("x.db", "CREATE TABLE t(a)");
  databases.exec("x.db", "INSERT INTO t VALUES(randomblob(900)); PRAGMA wal_checkpoint");
  directory.die();
  directory.forget_syncs();
  directory.resume();
  directory.cut();
  insert_and_cut(directory, databases);  // To a log that begins anew.
  directory.read_unread();
  insert_and_cut(directory, databases);
  EXPECT_TRUE(directory.cutter().unsettled());
  for (int i = 0; i < 3; ++i) {
    databases.exec("x.db", "PRAGMA wal_checkpoint");
    insert_and_cut(directory, databases);
  }
  EXPECT_FALSE(directory.cutter().unsettled());
  databases.expect_newest_restored();
  databases.expect_points_are_states();
}

// I5: what its predecessor has seen of syncs outlives it.
TEST(TrackingResume, ADatabaseThatNeverPausesIsTrustedAtOnceIfItsUserIsKnownToSync) {
  for (const bool known : {true, false}) {
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    databases.open("x.db", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    databases.exec("x.db", "CREATE TABLE t(a)");
    databases.exec("x.db", "PRAGMA wal_checkpoint");
    insert_and_cut(directory, databases);
    directory.die();
    if (!known) directory.forget_syncs();
    directory.resume();
    directory.read_unread();
    insert_and_cut(directory, databases);
    insert_and_cut(directory, databases);
    EXPECT_EQ(directory.cutter().unsettled(), !known);
    databases.exec("x.db", "PRAGMA wal_checkpoint");  // Which syncs the log.
    insert_and_cut(directory, databases);
    insert_and_cut(directory, databases);
    EXPECT_FALSE(directory.cutter().unsettled());
    databases.expect_newest_restored();
    databases.expect_points_are_states();
  }
}

TEST(TrackingResume, NamesThatTheLogLacksAreFound) {
  TrackedDirectory directory;
  write_file(directory, "a", "a");
  write_file(directory, "b", "b");
  directory.sync();
  directory.mount().rename("a", "c");
  directory.mount().unlink("b");
  write_file(directory, "b", "another b");
  die_and_resume(directory);
  directory.sync();
  directory.expect_all_restored();
}

TEST(TrackingResume, AFirstUploadThatWasNotCompleteBeginsAgainInANewEpoch) {
  TrackedDirectory directory({.start = false});
  std::ofstream(directory.source("a")) << std::string(100'000, 'a');
  directory.start();
  directory.abandon();
  directory.resume();
  EXPECT_TRUE(directory.writer().fresh);
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
  EXPECT_EQ(directory.writer().epoch.number, 2u);
}

TEST(TrackingResume, AnyNumberOfDeathsLosesNothing) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::minstd_rand random(seed);
    TrackedDirectory directory;
    for (int step = 0; step < 60; ++step) {
      const std::string name = "f" + std::to_string(random() % 6);
      switch (random() % 8) {
        case 0:
          die_and_resume(directory);
          break;
        case 1:
          directory.cut();
          break;
        case 2:
          if (directory.cut()) directory.seal();
          break;
        case 3:
          if (directory.mount().exists(name)) directory.mount().unlink(name);
          break;
        case 4:
          if (directory.mount().exists(name)) directory.mount().rename(name, "g" + name);
          break;
        default:
          write_file(directory, name,
                     std::string(random() % 50'000, static_cast<char>('a' + step % 26)));
      }
    }
    directory.sync();
    directory.expect_all_restored();
  }
}

}  // namespace
}  // namespace walfs::test
