// What a directory gets while nothing is mounted, by the usual VFS.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <string>

#include "tests/support/tracked_databases.h"

namespace walfs::test {

inline constexpr TrackedDirectory::Options kNotStarted{.start = false};

inline void write_outside(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << content;
}

// A database made without us, by the usual VFS. With `hot`, its log is left behind.
inline void make_database(const std::string& path, int rows, const char* mode, bool hot = false) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, hot ? 1 : 0, nullptr);
  const std::string sql = std::string(
                              "PRAGMA page_size=1024; PRAGMA synchronous=OFF; PRAGMA "
                              "journal_mode=") +
                          mode + "; CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b);" +
                          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<" +
                          std::to_string(rows) + ") INSERT INTO t(b) SELECT randomblob(700) FROM n";
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_EQ(sqlite3_close(db), SQLITE_OK);
}

// A database, and beside it the journal of a transaction that was under way when its process died.
inline void make_database_with_hot_journal(const std::string& path, const std::string& elsewhere) {
  make_database(elsewhere, 200, "DELETE");
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(elsewhere.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, "PRAGMA cache_size=5; BEGIN; UPDATE t SET b=zeroblob(600)", nullptr,
                         nullptr, nullptr),
            SQLITE_OK);
  std::filesystem::copy_file(elsewhere, path);
  std::filesystem::copy_file(elsewhere + "-journal", path + "-journal");
  sqlite3_close(db);
}

}  // namespace walfs::test
