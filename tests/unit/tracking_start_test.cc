// The start: what is there when nobody has looked (I5).
#include <gtest/gtest.h>

#include "replicator/segment.h"
#include "tests/support/unmounted_directory.h"

namespace walfs::test {
namespace {

// How many blocks with bytes the segments behind a position hold.
size_t blocks_after(TrackedDirectory& directory, Position position) {
  size_t blocks = 0;
  const auto listing = list_replica(directory.store);
  EXPECT_TRUE(listing.ok());
  for (const StoredObject& segment : listing->segments) {
    const auto index = load_segment_index(directory.store, segment);
    EXPECT_TRUE(index.ok());
    for (const Point& point : index->points) {
      if (point.position.sequence() <= position.sequence()) continue;
      for (const Change& change : point.changes)
        if (const auto* content = std::get_if<SetContent>(&change))
          blocks += content->blocks.size();
    }
  }
  return blocks;
}

void fill(TrackedDirectory& directory) {
  std::filesystem::create_directories(directory.source("d/e"));
  write_outside(directory.source("a"), std::string(100'000, 'a'));
  write_outside(directory.source("d/b"), "small");
  write_outside(directory.source("d/e/empty"), "");
  write_outside(directory.source("zeros"), std::string(3 << 20, '\0'));
  std::filesystem::create_hard_link(directory.source("a"), directory.source("d/twin"));
  std::filesystem::create_symlink("d/b", directory.source("link"));
  make_database(directory.source("x.db"), 300, "DELETE");
}

// I9.
TEST(TrackingStart, AFirstUploadHasEverything) {
  TrackedDirectory directory(kNotStarted);
  fill(directory);
  make_database(directory.source("y.db"), 50, "WAL", /*hot=*/true);
  directory.start();
  EXPECT_GT(directory.scan().files, 6u);
  directory.finish_first_upload();
  TrackedDatabases databases(directory);
  databases.open("y.db");
  EXPECT_EQ(databases.exec("y.db", "SELECT count(*) FROM t"), "50");
  databases.close("y.db");
  directory.sync();
  directory.expect_all_restored();
}

// I5, I9: what lies in a hot log is part of the database.
TEST(TrackingStart, AFirstUploadHasWhatLiesInALogOnly) {
  TrackedDirectory directory(kNotStarted);
  make_database(directory.source("y.db"), 50, "WAL", /*hot=*/true);
  directory.start();
  directory.finish_first_upload();
  directory.sync();
  const std::string target = directory.restore(directory.log().sealed());
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((target + "/y.db").c_str(), &db), SQLITE_OK);
  std::string count;
  sqlite3_exec(
      db, "SELECT count(*) FROM t",
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) = values[0];
        return 0;
      },
      &count, nullptr);
  sqlite3_close(db);
  EXPECT_EQ(count, "50");
}

std::string restored_rows(const std::string& path) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  std::string rows;
  sqlite3_exec(
      db, "SELECT count(*) FROM t WHERE length(b)=700",
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) = values[0];
        return 0;
      },
      &rows, nullptr);
  sqlite3_close(db);
  return rows;
}

// I5: SQLite rolls the transaction back in what is restored as it would have here.
TEST(TrackingStart, ADatabaseThatCameWithAHotJournalWhileNobodyLookedIsCompleteWithIt) {
  TrackedDirectory directory(kNotStarted);
  directory.start();
  directory.finish_first_upload();
  directory.finish();
  directory.abandon();
  make_database_with_hot_journal(directory.source("y.db"), directory.spool() + ".y.db");
  directory.start();
  directory.finish_first_upload();
  directory.sync();
  EXPECT_EQ(restored_rows(directory.restore(directory.log().sealed()) + "/y.db"), "200");
  directory.restart();
  EXPECT_EQ(restored_rows(directory.restore(directory.writer().newest) + "/y.db"), "200");

  TrackedDatabases databases(directory);
  databases.open("y.db");
  EXPECT_EQ(databases.exec("y.db", "SELECT count(*) FROM t WHERE length(b)=700"), "200");
  databases.close("y.db");
  directory.sync();
  directory.expect_all_restored();
}

TEST(TrackingStart, AHotJournalWhoseDatabaseIsRemovedOrRenamedIsAFileWithItsContent) {
  for (const bool renamed : {false, true}) {
    SCOPED_TRACE(renamed ? "renamed" : "removed");
    TrackedDirectory directory(kNotStarted);
    make_database_with_hot_journal(directory.source("y.db"), directory.spool() + ".y.db");
    directory.start();
    directory.finish_first_upload();
    directory.sync();
    if (renamed) {
      directory.mount().rename("y.db-journal", "saved");
    } else {
      directory.mount().unlink("y.db");
    }
    directory.sync();
    directory.expect_all_restored();
  }
}

// I1: its transaction is open until somebody rolls it back.
TEST(TrackingStart, ADatabaseThatIsRenamedAwayFromItsHotJournalIsNotTakenForCommitted) {
  TrackedDirectory directory(kNotStarted);
  make_database(directory.source("y.db"), 100, "DELETE");
  directory.start();
  directory.finish_first_upload();
  directory.sync();
  const Tree before = directory.restored_tree(directory.log().sealed());
  TrackedDatabases databases(directory);
  databases.open("y.db", "PRAGMA cache_size=5");
  databases.exec("y.db", "BEGIN; UPDATE t SET b=zeroblob(600)");
  directory.mount().write_back_all();
  directory.mount().rename("y.db", "z.db");
  for (int i = 0; i < 4; ++i) directory.cut();
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed()).at("z.db").content,
            before.at("y.db").content);
  directory.mount().rename("z.db", "y.db");
  databases.exec("y.db", "ROLLBACK");
  databases.close("y.db");
  directory.sync();
  directory.expect_all_restored();
}

// I5: without knowing what the replica has, nothing is taken for sent.
TEST(TrackingStart, AFileWhoseRowInTheCatalogIsDamagedIsSentAnew) {
  for (const char* damage : {"size=1<<60", "block_size=0", "block_size=1<<40"}) {
    SCOPED_TRACE(damage);
    TrackedDirectory directory(kNotStarted);
    write_outside(directory.source("a"), std::string(100'000, 'a'));
    make_database(directory.source("x.db"), 100, "DELETE");
    directory.start();
    directory.finish_first_upload();
    directory.finish();
    directory.abandon();
    sqlite3* catalog = nullptr;
    ASSERT_EQ(sqlite3_open((directory.spool() + "/../catalog.db").c_str(), &catalog), SQLITE_OK);
    const std::string sql = std::string("UPDATE files SET ") + damage + " WHERE block_size > 0";
    EXPECT_EQ(sqlite3_exec(catalog, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    EXPECT_GE(sqlite3_changes(catalog), 2);
    sqlite3_close(catalog);

    directory.start();
    directory.finish_first_upload();
    directory.mount().append("a", "more");
    TrackedDatabases databases(directory);
    databases.open("x.db");
    databases.exec("x.db", "DELETE FROM t WHERE a > 90");
    databases.close("x.db");
    directory.sync();
    directory.expect_all_restored();
  }
}

// I5: nothing is sent for what is the same, and only blocks that differ.
TEST(TrackingStart, AfterACleanEndOnlyWhatChangedIsReadAndSent) {
  TrackedDirectory directory(kNotStarted);
  fill(directory);
  directory.start();
  directory.finish_first_upload();
  directory.finish();
  directory.abandon();
  directory.start();
  EXPECT_TRUE(directory.scan().unread.empty());
  directory.finish_first_upload();
  directory.finish();
  directory.abandon();

  {
    std::fstream file(directory.source("a"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(50'000);
    file << "CHANGED";
  }
  make_database(directory.source("x.db"), 1, "DELETE");
  directory.start();
  EXPECT_EQ(directory.scan().unread.size(), 2u);
  const Position before = directory.log().last();
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
  const size_t blocks = blocks_after(directory, before);
  EXPECT_GT(blocks, 1u);
  EXPECT_LT(blocks, 12u);
}

TEST(TrackingStart, AfterAnUncleanEndEverythingIsComparedAndOnlyDifferencesAreSent) {
  TrackedDirectory directory(kNotStarted);
  fill(directory);
  directory.start();
  directory.finish_first_upload();
  directory.mount().put("late", "the log's open segment is lost with this");
  directory.mount().append("a", "and this");
  directory.cut();
  directory.abandon();
  directory.start();
  EXPECT_FALSE(directory.writer().fresh);
  EXPECT_GE(directory.scan().unread.size(), 6u);
  const Position before = directory.log().last();
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
  EXPECT_LT(blocks_after(directory, before), 12u);
}

// I5, I8: whatever was done to the directory while it was not mounted.
TEST(TrackingStart, AnythingMayHaveChangedMeanwhile) {
  for (const bool clean : {true, false}) {
    for (const uint32_t seed : seeds(4)) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      TrackedDirectory directory(kNotStarted);
      fill(directory);
      directory.start();
      directory.finish_first_upload();
      std::mt19937 random(seed);
      for (int round = 0; round < 3; ++round) {
        directory.mount().put("d/inside", std::to_string(random()));
        directory.cut();
        if (clean) directory.finish();
        directory.abandon();
        for (int change = 0; change < 6; ++change) {
          const std::string name = directory.source("file" + std::to_string(random() % 4));
          std::error_code ignored;
          switch (random() % 7) {
            case 0:
              std::filesystem::remove_all(name, ignored);
              break;
            case 1:  // The number of an inode that has just gone, perhaps.
              std::filesystem::remove_all(name, ignored);
              write_outside(name, "again " + std::to_string(random()));
              break;
            case 2:
              std::filesystem::remove_all(name, ignored);
              std::filesystem::create_directory(name, ignored);
              write_outside(name + "/below", "below");
              break;
            case 3:
              std::filesystem::remove_all(name, ignored);
              std::filesystem::create_symlink("somewhere", name, ignored);
              break;
            case 4:
              std::filesystem::remove_all(name, ignored);
              std::filesystem::rename(directory.source("d/inside"), name, ignored);
              break;
            case 5:
              std::filesystem::remove_all(name, ignored);
              make_database(name, 20, random() % 2 == 0 ? "WAL" : "DELETE");
              break;
            default:
              make_database(directory.source("x.db"), 3, "DELETE");
          }
        }
        directory.start();
        directory.finish_first_upload();
        directory.sync();
        directory.expect_all_restored();
        ASSERT_FALSE(::testing::Test::HasFailure());
      }
    }
  }
}

// I7: the store is away; the spool keeps everything, and the next start goes on with it.
TEST(TrackingStart, WhatTheStoreHasNotGotIsSentAfterTheNextStart) {
  TrackedDirectory directory;
  directory.store.fail(Call::kPut, Errc::kRetry, 1'000'000);
  directory.mount().put("a", "content");
  directory.cut();
  ASSERT_TRUE(directory.log().seal().ok());
  directory.abandon();
  EXPECT_TRUE(directory.store.keys(std::string(kLogPrefix)).size() <= 1);
  directory.store.heal();
  directory.start();
  EXPECT_EQ(directory.writer().spooled.size(), 1u);
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
}

}  // namespace
}  // namespace walfs::test
