// Several databases in one directory: every point is one instant of all of them, and what one
// transaction does to several of them is never half in a point.
#include <gtest/gtest.h>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

constexpr const char* kWal = "PRAGMA page_size=1024; PRAGMA journal_mode=WAL";
constexpr const char* kDelete = "PRAGMA page_size=1024; PRAGMA synchronous=FULL";
constexpr const char* kTable = "CREATE TABLE t(a INTEGER PRIMARY KEY, b)";

void write_alternately(const char* first, const char* second, bool page_cache, uint32_t seed) {
  TrackedDirectory directory({.page_cache = page_cache, .seed = seed});
  TrackedDatabases databases(directory);
  std::mt19937 random(seed);
  std::optional<Cut> instant;
  int made = 0;
  const auto end = [&] {
    if (!instant) return;
    directory.mount().write_back_all();
    // An instant from before a log's -shm was there is put off.
    if (directory.cut(*instant)) ++made;
    instant.reset();
  };
  databases.after_change = [&] {
    if (random() % 3 != 0) return;
    if (instant) {
      end();
    } else {
      instant = directory.take_instant();
    }
  };
  databases.open("x.db", first);
  databases.open("y.db", second);
  databases.exec("x.db", kTable);
  databases.exec("y.db", kTable);
  for (int i = 0; i < 25; ++i) {
    const char* file = random() % 2 == 0 ? "x.db" : "y.db";
    databases.exec(file,
                   "INSERT INTO t(b) VALUES(randomblob(" + std::to_string(random() % 900) + "))");
    if (random() % 5 == 0) databases.exec(file, "PRAGMA wal_checkpoint(RESTART)");
  }
  end();
  EXPECT_GT(made, 3);
  directory.cut();
  databases.expect_newest_restored();
  databases.expect_points_are_states();
}

// I1: what came after such an instant and what came before could not be told apart.
TEST(TrackingInstants, AnInstantThatLacksTheHeadOfANewLogIsPutOff) {
  TrackedDirectory directory({.page_cache = true});
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=WAL");
  databases.exec("x.db", kTable);
  Cut instant = directory.take_instant();
  databases.open("y.db", "PRAGMA journal_mode=WAL");
  databases.exec("y.db", kTable);
  directory.mount().write_back_all();
  EXPECT_FALSE(directory.cut(instant));
  EXPECT_TRUE(directory.cut());
  databases.expect_newest_restored();
  databases.expect_points_are_states();
}

// I1, I2: the heads of one instant say which transactions belong to the point.
TEST(TrackingInstants, TwoDatabasesWithWriteAheadLogsAreOfOneInstant) {
  for (const uint32_t seed : seeds(5)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    write_alternately(kWal, kWal, false, seed);
    write_alternately(kWal, kWal, true, seed);
    if (HasFailure()) return;
  }
}

TEST(TrackingInstants, TwoDatabasesWithRollbackJournalsAreOfOneInstant) {
  for (const uint32_t seed : seeds(5)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    write_alternately(kDelete, kDelete, false, seed);
    write_alternately(kDelete, kDelete, true, seed);
    if (HasFailure()) return;
  }
}

TEST(TrackingInstants, ADatabaseWithALogAndOneWithAJournalAreOfOneInstant) {
  for (const uint32_t seed : seeds(5)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    write_alternately(kWal, kDelete, false, seed);
    write_alternately(kDelete, kWal, true, seed);
    if (HasFailure()) return;
  }
}

// I1: a transaction over several databases ends when its super-journal goes.
TEST(TrackingInstants, ATransactionOverTwoDatabasesIsNeverHalfInAPoint) {
  for (const bool page_cache : {false, true}) {
    for (const char* mode : {"DELETE", "TRUNCATE", "PERSIST"}) {
      SCOPED_TRACE(mode);
      TrackedDirectory directory({.page_cache = page_cache, .seed = 7});
      TrackedDatabases databases(directory);
      const std::string pragmas = std::string(kDelete) + "; PRAGMA journal_mode=" + mode;
      databases.open("y.db", pragmas);
      databases.exec("y.db", kTable);
      databases.open("x.db", pragmas);
      databases.exec("x.db", kTable);
      databases.exec("x.db", "ATTACH '" + directory.source("y.db") + "' AS other");
      databases.exec("x.db", std::string("PRAGMA other.journal_mode=") + mode);
      databases.after_change = [&] { EXPECT_TRUE(directory.cut()); };
      for (int i = 0; i < 4; ++i) {
        databases.exec("x.db",
                       "BEGIN; INSERT INTO t(b) VALUES(randomblob(700));"
                       "INSERT INTO other.t(b) VALUES(randomblob(1700));");
        databases.exec("x.db", i == 2 ? "ROLLBACK" : "COMMIT");
      }
      databases.expect_newest_restored();
      databases.expect_points_are_states();
      if (HasFailure()) return;
    }
  }
}

// I1, I3: an instant before a log's restart still gets what the log held.
TEST(TrackingInstants, WhatALogHeldBeforeItsRestartBelongsToTheInstantBefore) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("x.db", kWal);
  databases.exec("x.db", kTable);
  databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(3000))");
  const auto at_instant = databases.now();
  Cut instant = directory.take_instant();
  databases.exec("x.db", "PRAGMA wal_checkpoint(RESTART)");
  databases.exec("x.db", "UPDATE t SET b = randomblob(3000)");
  ASSERT_TRUE(directory.cut(instant));
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed()).at("x.db").content,
            at_instant.at("x.db"));
  directory.cut();
  databases.expect_newest_restored();
}

// I3, I8: and what a file held that was removed, or replaced, since then.
TEST(TrackingInstants, AFileThatGoesBetweenAnInstantAndItsCutIsInThatPointAsItWas) {
  TrackedDirectory directory;
  TrackedMount& mount = directory.mount();
  mount.put("kept", "before");
  mount.put("replaced", "before");
  directory.cut();
  for (const char* name : {"kept", "replaced", "new"}) mount.put(name, "at the instant");
  const Cut instant = directory.take_instant();
  mount.put("next", "after it");
  mount.rename("next", "replaced");
  for (const char* name : {"kept", "new"}) mount.unlink(name);
  ASSERT_TRUE(directory.cut(instant));
  directory.seal();
  const Tree tree = directory.restored_tree(directory.log().sealed());
  for (const char* name : {"kept", "replaced", "new"})
    EXPECT_EQ(tree.at(name).content, "at the instant") << name;
  directory.sync();
  directory.expect_all_restored();
}

// I3: and nothing waits for frames of a log that is gone.
TEST(TrackingInstants, ALogMayEndBetweenAnInstantAndItsCut) {
  for (const bool reopened : {false, true}) {
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    databases.open("x.db", kWal);
    databases.exec("x.db", kTable);
    directory.cut();
    databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(3000))");
    Cut instant = directory.take_instant();
    if (reopened) {
      databases.close("x.db");
      databases.open("x.db");
      databases.exec("x.db", "SELECT count(*) FROM t");
    } else {
      databases.exec("x.db", "PRAGMA wal_checkpoint(TRUNCATE)");
    }
    EXPECT_TRUE(directory.cut(instant));
    directory.cut();
    databases.expect_newest_restored();
  }
}

// What a log held is in the replica though the application opened the database again and did not
// touch it.
TEST(TrackingInstants, ALogThatEndedBeforeItsHeadWasToldIsNotWaitedFor) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("x.db", kWal);
  databases.exec("x.db", kTable);
  directory.cut();
  databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(3000))");
  databases.close("x.db");
  databases.open("x.db", "PRAGMA journal_mode=WAL");
  directory.cut();
  databases.expect_newest_restored();
}

// A -shm that outlived a crash promises frames that were lost, until SQLite has recovered it.
TEST(TrackingInstants, AHeadThatWasToldTooFarIsNotWaitedForOnceItIsToldAnew) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("x.db", kWal);
  databases.exec("x.db", kTable);
  const Cut recovered = directory.take_instant();
  Cut stale = recovered;
  ASSERT_EQ(stale.heads.size(), 1u);
  stale.heads.front().frame += 2;
  // No point is made meanwhile, so that what was told waits.
  directory.cutter().begin_comparison();
  EXPECT_FALSE(directory.cut(stale));
  EXPECT_FALSE(directory.cut(recovered));
  directory.cutter().end_comparison();
  EXPECT_TRUE(directory.cut());
  databases.expect_newest_restored();
}

// I2: nothing is doubted where every checkpoint was synced, however often logs begin anew between
// two cuts.
TEST(TrackingInstants, LogsThatBeginAnewBetweenTwoCutsAreNotDoubted) {
  for (const char* checkpoint : {"RESTART", "TRUNCATE"}) {
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    databases.open("x.db", kWal);
    databases.exec("x.db", kTable);
    for (int i = 0; i < 6; ++i) {
      for (int round = 0; round <= i % 3; ++round) {
        databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(3000))");
        databases.exec("x.db", std::string("PRAGMA wal_checkpoint(") + checkpoint + ")");
      }
      databases.exec("x.db", "UPDATE t SET b = randomblob(3000)");
      directory.cut();
      databases.expect_newest_restored();
    }
  }
}

// I1: frames of a transaction that is still open lie in the log, with valid checksums or not.
TEST(TrackingInstants, WhatIsNotCommittedOrRolledBackIsInNoPoint) {
  for (const char* pragmas :
       {"PRAGMA journal_mode=WAL; PRAGMA cache_size=2; PRAGMA cache_spill=2",
        "PRAGMA journal_mode=DELETE; PRAGMA cache_size=2; PRAGMA cache_spill=2"}) {
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    databases.open("x.db", pragmas);
    databases.exec("x.db", std::string(kTable) + "; INSERT INTO t(b) VALUES('before')");
    directory.cut();
    databases.exec("x.db",
                   "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60)"
                   " INSERT INTO t(b) SELECT 'THE SECRET' || hex(randomblob(2000)) FROM n");
    for (int i = 0; i < 5; ++i) directory.cut(/*force=*/i % 2 == 1);
    directory.seal();
    const auto secret = [&] {
      const Tree tree = directory.restored_tree(directory.log().sealed());
      return tree.at("x.db").content.find("THE SECRET") != std::string::npos;
    };
    EXPECT_FALSE(secret());
    databases.exec("x.db", "ROLLBACK");
    directory.cut();
    directory.seal();
    EXPECT_FALSE(secret());
    databases.expect_newest_restored();
  }
}

}  // namespace
}  // namespace walfs::test
