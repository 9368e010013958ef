// Where the chain is lost (I5): journals that tell nothing, syncs that never come, changes of mode
// and of page size, databases that are removed, renamed and copied over.
#include <gtest/gtest.h>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

constexpr const char* kTable = "CREATE TABLE t(a INTEGER PRIMARY KEY, b)";
constexpr const char* kInsert = "INSERT INTO t(b) VALUES(randomblob(2000))";

class TrackingDoubt : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    Modes, TrackingDoubt,
    ::testing::Values("PRAGMA journal_mode=MEMORY", "PRAGMA journal_mode=OFF",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; PRAGMA "
                      "wal_autocheckpoint=4",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=DELETE",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=TRUNCATE",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=PERSIST",
                      "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"),
    [](const auto& test) {
      std::string name;
      for (const char* c = test.param; *c != 0; ++c)
        if (isalnum(*c) != 0) name += *c;
      return name;
    });

// Pauses between which pages arrive in any order and cuts are made, at most one between two writes;
// half of them when more has arrived than the instant knows of.
void expect_settled_by_pauses(const std::string& pragmas, bool page_cache, bool deaths,
                              uint32_t seed) {
  TrackedDirectory directory({.page_cache = page_cache, .seed = seed});
  TrackedDatabases databases(directory);
  TrackedWorkload work(databases, "x.db", "PRAGMA page_size=1024; " + pragmas, seed);
  std::mt19937 random(seed);
  bool cut_since = false;
  std::optional<Cut> instant;
  const auto cut = [&] {
    if (instant) {
      directory.cut(*instant);
      instant.reset();
    } else if (random() % 2 == 0) {
      directory.cut();
    } else {
      instant = directory.take_instant();
      directory.mount().write_back_all();
    }
  };
  databases.after_change = [&] {
    if (page_cache && random() % 4 == 0) directory.mount().write_back_some();
    if (deaths && random() % 60 == 0) {
      directory.die();
      instant.reset();
      directory.resume();
      directory.read_unread();
    }
    if (random() % 10 == 0 && !cut_since) {
      cut();
      cut_since = true;
    } else {
      cut_since = false;
    }
  };
  for (int i = 0; i < 12; ++i) {
    for (unsigned step = 0; step <= random() % 3; ++step) work.step();
    if (instant) cut();
    for (int pause = 0; pause < 4; ++pause) directory.cut();
    databases.expect_newest_restored();
    if (::testing::Test::HasFailure()) return;
  }
  databases.close_all();
  databases.expect_points_are_states();
  directory.sync();
  directory.expect_all_restored();
}

// I5: a pause settles it.
TEST_P(TrackingDoubt, APauseSettlesItAndNoPointIsTorn) {
  for (const bool page_cache : {false, true}) {
    for (const uint32_t seed : seeds(5)) {
      SCOPED_TRACE("seed " + std::to_string(seed) + (page_cache ? ", page cache" : ""));
      expect_settled_by_pauses(GetParam(), page_cache, /*deaths=*/false, seed);
      if (HasFailure()) return;
    }
  }
}

// I5: what the server that died had not got yet, the next one does not take for synced.
TEST_P(TrackingDoubt, APauseSettlesItThoughServersDie) {
  std::vector<uint32_t> chosen = seeds(4);
  chosen.push_back(30);  // It had a torn point once, with a log.
  for (const uint32_t seed : chosen) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    expect_settled_by_pauses(GetParam(), /*page_cache=*/true, /*deaths=*/true, seed);
    if (HasFailure()) return;
  }
}

// I5: the kernel may pass on a log before the pages on which it builds.
TEST(TrackingDoubtOfLogs, ALogThatArrivesBeforeItsDatabaseIsNotTaken) {
  TrackedDirectory directory({.page_cache = true});
  TrackedDatabases databases(directory);
  const Cut instant = directory.take_instant();
  databases.open("x.db", "PRAGMA page_size=1024; PRAGMA synchronous=OFF");
  databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(5000))");
  databases.exec("x.db", "PRAGMA journal_mode=WAL");
  databases.exec("x.db", "CREATE TABLE u(a)");
  directory.mount().write_back(directory.mount().find("x.db-wal"));
  directory.cut(instant);
  for (int pause = 0; pause < 4; ++pause) directory.cut();
  databases.expect_newest_restored();
  databases.expect_points_are_states();
}

class TrackingChanges : public ::testing::Test {
 protected:
  void open(const std::string& pragmas = "PRAGMA page_size=1024; PRAGMA journal_mode=WAL") {
    databases.open("x.db", pragmas);
    databases.exec("x.db", std::string("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)"));
    databases.exec("x.db", kInsert);
  }
  void expect_newest() {
    for (int pause = 0; pause < 4; ++pause) directory.cut();
    databases.expect_newest_restored();
  }
  TrackedDirectory directory{TrackedDirectory::Options{.page_cache = true, .seed = 3}};
  TrackedDatabases databases{directory};
};

// I1, I2.
TEST_F(TrackingChanges, TheJournalModeMayChangeAtAnyTime) {
  open();
  databases.after_change = [&] { directory.cut(); };
  for (const char* mode :
       {"DELETE", "WAL", "PERSIST", "WAL", "TRUNCATE", "MEMORY", "WAL", "DELETE", "OFF", "WAL"}) {
    databases.exec("x.db", std::string("PRAGMA journal_mode=") + mode);
    databases.exec("x.db", kInsert);
    if (std::string(mode) == "MEMORY" || std::string(mode) == "OFF")
      for (int pause = 0; pause < 4; ++pause) directory.cut();
    directory.cut();
    databases.expect_newest_restored();
    if (HasFailure()) FAIL() << mode;
  }
  databases.expect_points_are_states();
}

// I5, I6: all blocks are new ones.
TEST_F(TrackingChanges, ThePageSizeMayChange) {
  for (const char* mode : {"DELETE", "WAL"}) {
    open("PRAGMA page_size=1024; PRAGMA journal_mode=DELETE");
    for (const char* size : {"4096", "512", "65536", "1024"}) {
      databases.exec("x.db", "PRAGMA journal_mode=DELETE");
      databases.exec("x.db", std::string("PRAGMA page_size=") + size + "; VACUUM");
      databases.exec("x.db", std::string("PRAGMA journal_mode=") + mode);
      databases.exec("x.db", kInsert);
      directory.cut();
      databases.exec("x.db", kInsert);
      expect_newest();
    }
    databases.close("x.db");
  }
  databases.expect_points_are_states();
}

// I6: pages behind a smaller end are gone, and zeros or new when it grows again.
TEST_F(TrackingChanges, AVacuumShrinksTheDatabaseAndItGrowsAgain) {
  for (const char* mode : {"WAL", "DELETE"}) {
    open(std::string("PRAGMA page_size=1024; PRAGMA journal_mode=") + mode);
    for (int round = 0; round < 3; ++round) {
      databases.exec("x.db",
                     "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<80)"
                     " INSERT INTO t(b) SELECT randomblob(900) FROM n");
      if (round != 1) directory.cut();
      databases.exec("x.db", "DELETE FROM t WHERE a % 7 != 0");
      databases.exec("x.db", "VACUUM");
      if (round == 1) databases.exec("x.db", "PRAGMA wal_checkpoint(TRUNCATE)");
      expect_newest();
    }
    databases.close("x.db");
  }
  databases.expect_points_are_states();
}

// I3: what the log held when it went is in the replica.
TEST_F(TrackingChanges, ADatabaseMayBeDeletedAndMadeAgain) {
  for (int round = 0; round < 3; ++round) {
    open();
    if (round != 1) directory.cut();
    databases.close("x.db");
    directory.mount().unlink("x.db");
    databases.set_content("x.db", "");
    if (round != 0) directory.cut();
  }
  open();
  databases.exec("x.db", kInsert);
  expect_newest();
  databases.expect_points_are_states();
}

TEST_F(TrackingChanges, ADatabaseMayBeDeletedWhileItIsWritten) {
  for (const char* mode : {"WAL", "TRUNCATE", "PERSIST"}) {
    open(std::string("PRAGMA page_size=1024; PRAGMA journal_mode=") + mode);
    directory.cut();
    directory.mount().unlink("x.db");
    directory.cut();
    directory.cut();
    // SQLite goes on with the log of a file that has no name any more.
    databases.exec("x.db", std::string(mode) == "WAL" ? kInsert : "SELECT 1");
    directory.cut();
    directory.cut();
    databases.exec("x.db", "PRAGMA wal_checkpoint(TRUNCATE)");
    databases.close("x.db");
    for (const char* companion : {"x.db-wal", "x.db-shm", "x.db-journal"})
      if (directory.mount().exists(companion)) directory.mount().unlink(companion);
    directory.sync();
    directory.expect_all_restored();
    EXPECT_EQ(directory.restored_tree(directory.log().sealed()).count("x.db"), 0u);
  }
}

// I3, I8: content before the name.
TEST_F(TrackingChanges, ADatabaseMayBeRenamedOverAnotherOne) {
  open();
  databases.close("x.db");
  databases.open("new.db", "PRAGMA page_size=4096; PRAGMA journal_mode=DELETE");
  databases.exec("new.db", kTable);
  for (int i = 0; i < 5; ++i) databases.exec("new.db", kInsert);
  databases.close("new.db");
  directory.cut();
  const std::string content = databases.content("new.db");
  directory.mount().rename("new.db", "x.db");
  directory.cut();
  directory.seal();
  const Tree tree = directory.restored_tree(directory.log().sealed());
  EXPECT_EQ(tree.at("x.db").content, content);
  EXPECT_FALSE(tree.contains("new.db"));
  databases.set_content("new.db", "");
  open();
  expect_newest();
}

// I3: the log is hot: its transactions are in no database file yet.
TEST_F(TrackingChanges, ADatabaseMayBeRenamedTogetherWithItsHotLog) {
  open();
  databases.exec("x.db", kInsert);
  directory.cut();
  directory.mount().write_back_all();
  // As a backup that is put in place: log first, then the database.
  const std::string database = directory.mount().content("x.db");
  const std::string log = directory.mount().content("x.db-wal");
  const std::string state = databases.content("x.db");
  directory.mount().put("in.db-wal", log);
  directory.mount().put("in.db", database);
  directory.cut();
  directory.mount().rename("in.db-wal", "y.db-wal");
  directory.cut();
  directory.mount().rename("in.db", "y.db");
  for (int pause = 0; pause < 4; ++pause) directory.cut();
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed()).at("y.db").content, state);
  databases.open("y.db");
  EXPECT_EQ(databases.exec("y.db", "SELECT count(*) FROM t"), "2");
  databases.exec("y.db", kInsert);
  expect_newest();
  databases.close_all();
  directory.sync();
  directory.expect_all_restored();
}

// I5: a tool restores a backup in place, byte by byte, while nobody has it open.
TEST_F(TrackingChanges, ADatabaseMayBeCopiedOver) {
  open();
  const std::string before = databases.content("x.db");
  for (int i = 0; i < 10; ++i) databases.exec("x.db", kInsert);
  databases.close("x.db");
  directory.cut();
  directory.mount().put("x.db", before);
  for (int pause = 0; pause < 4; ++pause) directory.cut();
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed()).at("x.db").content, before);
  databases.set_content("x.db", before);
  open();
  expect_newest();
  databases.close_all();
  directory.sync();
  directory.expect_all_restored();
}

// I5: other programs write with -wal left behind from a crash.
TEST_F(TrackingChanges, ATransactionOfACrashedWriterIsRolledBackByTheNext) {
  open("PRAGMA page_size=1024; PRAGMA synchronous=FULL; PRAGMA cache_size=2; PRAGMA cache_spill=2");
  databases.exec("x.db", kInsert);
  directory.cut();
  const std::string committed = databases.content("x.db");
  databases.exec("x.db",
                 "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60)"
                 " INSERT INTO t(b) SELECT randomblob(2000) FROM n");
  directory.mount().write_back_all();
  const std::string half = directory.mount().content("x.db");
  const std::string journal = directory.mount().content("x.db-journal");
  ASSERT_NE(half, committed);
  databases.exec("x.db", "ROLLBACK");
  databases.close("x.db");
  // The files as they were in the middle, and nobody who has them open.
  directory.mount().put("x.db-journal", journal);
  directory.mount().put("x.db", half);
  for (int i = 0; i < 4; ++i) directory.cut(/*force=*/true);
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed()).at("x.db").content, committed);
  databases.open("x.db");
  EXPECT_EQ(databases.exec("x.db", "SELECT count(*) FROM t"), "2");
  expect_newest();
}

// A sync does not wait for somebody's open transaction, nor for the uncertain ones before it.
TEST(TrackingDoubtOpen, AnOpenTransactionOfADatabaseThatTheReplicaDoesNotHaveYetIsNotWaitedFor) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("y.db", "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF");
  databases.exec("y.db", "CREATE TABLE t(a)");
  databases.exec("y.db",
                 "PRAGMA cache_size=5; BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
                 "i+1 FROM n WHERE i<200) INSERT INTO t SELECT randomblob(900) FROM n");
  directory.sync();
  databases.exec("y.db", "COMMIT");
  databases.close("y.db");
  directory.sync();
  directory.expect_all_restored();
}

}  // namespace
}  // namespace walfs::test
