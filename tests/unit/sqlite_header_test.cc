#include "fs/capture/sqlite_header.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <string>

#include "fs/capture/journal.h"
#include "tests/unit/wal_builder.h"

namespace walfs {
namespace {

using testing::put_be32;

// The bytes of a database that SQLite made in memory.
Bytes database_bytes(const std::string& sql) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_int64 size = 0;
  unsigned char* raw = sqlite3_serialize(db, "main", &size, 0);
  Bytes bytes(raw, raw + size);
  sqlite3_free(raw);
  sqlite3_close(db);
  return bytes;
}

Bytes small_database() {
  return database_bytes("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
}

TEST(SqliteHeader, ReadsWhatSqliteWrote) {
  for (uint32_t page_size = 512; page_size <= 65536; page_size *= 2) {
    const Bytes file = database_bytes("PRAGMA page_size=" + std::to_string(page_size) +
                                      "; CREATE TABLE t(a); CREATE TABLE u(a)");
    const auto header = parse_database_header(file);
    ASSERT_TRUE(header.has_value()) << page_size;
    EXPECT_EQ(header->page_size, page_size);
    EXPECT_EQ(header->page_count, file.size() / page_size);
    EXPECT_FALSE(header->is_wal_mode());
    EXPECT_EQ(header->reserved_bytes, 0);
  }
}

TEST(SqliteHeader, KnowsWalModeByTheReadVersion) {
  Bytes file = small_database();
  file[18] = file[19] = 2;
  EXPECT_TRUE(parse_database_header(file)->is_wal_mode());
}

TEST(SqliteHeader, DistrustsAPageCountThatAnOldSqliteLeftBehind) {
  Bytes file = small_database();
  const uint32_t change_counter = parse_database_header(file)->change_counter;
  put_be32(file, 24, change_counter + 1);
  EXPECT_FALSE(parse_database_header(file)->page_count.has_value());
  put_be32(file, 92, change_counter + 1);
  EXPECT_TRUE(parse_database_header(file)->page_count.has_value());
  put_be32(file, 28, 0);
  EXPECT_FALSE(parse_database_header(file)->page_count.has_value());
}

TEST(SqliteHeader, RefusesWhatSqliteRefuses) {
  const Bytes good = small_database();
  EXPECT_FALSE(parse_database_header(ByteView(good).first(99)).has_value());
  EXPECT_TRUE(parse_database_header(ByteView(good).first(100)).has_value());
  struct Fault {
    size_t at;
    uint8_t value;
    const char* what;
  };
  for (const Fault& fault :
       {Fault{0, 's', "magic"}, Fault{15, ' ', "end of the magic"}, Fault{16, 0x11, "page size"},
        Fault{19, 3, "read version"}, Fault{21, 65, "payload fraction"},
        Fault{22, 31, "payload fraction"}, Fault{23, 33, "payload fraction"}}) {
    Bytes bad = good;
    bad[fault.at] = fault.value;
    EXPECT_FALSE(parse_database_header(bad).has_value()) << fault.what;
  }
  Bytes small_pages = good;
  small_pages[16] = 2;
  small_pages[17] = 0;
  small_pages[20] = 32;
  EXPECT_TRUE(parse_database_header(small_pages).has_value());
  small_pages[20] = 33;
  EXPECT_FALSE(parse_database_header(small_pages).has_value()) << "usable size below 480";
}

TEST(SqliteHeader, PutsTheLockPageAtOneGibibyte) {
  EXPECT_EQ(lock_page(4096), 262145U);
  EXPECT_EQ(lock_page(512), 2097153U);
  EXPECT_EQ(lock_page(65536), 16385U);
}

TEST(SqliteHeader, TellsLogsAndJournalsByTheirFirstBytes) {
  const testing::WalBuilder little(512, 1, 2, false);
  const testing::WalBuilder big(65536, 1, 2, true);
  EXPECT_TRUE(looks_like_wal(little.file()));
  EXPECT_TRUE(looks_like_wal(ByteView(big.file()).first(12)));
  EXPECT_FALSE(looks_like_wal(ByteView(big.file()).first(11)));
  const Bytes journal(kJournalMagic.begin(), kJournalMagic.end());
  EXPECT_TRUE(looks_like_journal(journal));
  EXPECT_FALSE(looks_like_journal(ByteView(journal).first(7)));
  const Bytes database = small_database();
  EXPECT_FALSE(looks_like_wal(database));
  EXPECT_FALSE(looks_like_wal(journal));
  EXPECT_FALSE(looks_like_journal(database));
  EXPECT_FALSE(looks_like_journal(little.file()));
}

TEST(CompanionName, NamesTheDatabaseInFrontOfTheSuffix) {
  struct Case {
    const char* name;
    CompanionKind kind;
    const char* database;
  };
  for (const Case& c : {Case{"app.db-wal", CompanionKind::kWal, "app.db"},
                        Case{"app.db-shm", CompanionKind::kShm, "app.db"},
                        Case{"app.db-journal", CompanionKind::kJournal, "app.db"},
                        Case{"app.db-mj12AB0F9CD", CompanionKind::kSuperJournal, "app.db"},
                        Case{"x-wal-wal", CompanionKind::kWal, "x-wal"},
                        Case{"-wal-wal", CompanionKind::kWal, "-wal"}}) {
    const CompanionName name = parse_companion_name(c.name);
    EXPECT_EQ(name.kind, c.kind) << c.name;
    EXPECT_EQ(name.database, c.database) << c.name;
  }
}

TEST(CompanionName, LeavesOtherNamesAlone) {
  for (const char* name : {"", "app.db", "-wal", "-shm", "-journal", "-mj12AB0F9CD", "app.wal",
                           "app.db-WAL", "app.db-wal2", "app.db-mj12AB0F8CD", "app.db-mj12ab0f9cd",
                           "app.db-mj12AB0F9C", "app.db-mj12AB0FG9CD"}) {
    EXPECT_EQ(parse_companion_name(name).kind, CompanionKind::kNone) << name;
    EXPECT_EQ(parse_companion_name(name).database, "") << name;
  }
}

}  // namespace
}  // namespace walfs
