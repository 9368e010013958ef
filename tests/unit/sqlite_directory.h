// A temporary directory with a SQLite database in it, for tests that need SQLite's own files.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <string>

#include "replicator/base/bytes.h"
#include "tests/support/read_file.h"

namespace walfs::testing {

class SqliteDirectory {
 public:
  SqliteDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "walfs-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~SqliteDirectory() {
    close();
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  SqliteDirectory(const SqliteDirectory&) = delete;
  SqliteDirectory& operator=(const SqliteDirectory&) = delete;

  void open(const char* vfs = nullptr) {
    ASSERT_EQ(sqlite3_open_v2(path("x.db").c_str(), &db_,
                              SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs),
              SQLITE_OK);
  }
  void close() {
    sqlite3_close(db_);
    db_ = nullptr;
  }
  // The first column of the first row, or "".
  std::string exec(const std::string& sql) {
    std::string first;
    const auto keep = [](void* out, int columns, char** values, char**) {
      auto* text = static_cast<std::string*>(out);
      if (columns > 0 && values[0] != nullptr && text->empty()) *text = values[0];
      return 0;
    };
    char* message = nullptr;
    if (sqlite3_exec(db_, sql.c_str(), keep, &first, &message) != SQLITE_OK)
      ADD_FAILURE() << sql << ": " << message;
    sqlite3_free(message);
    return first;
  }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  // The content, or nothing if there is no such file.
  Bytes read(const std::string& name) const { return test::read_file_as<Bytes>(path(name)); }
  bool exists(const std::string& name) const { return std::filesystem::exists(path(name)); }

 private:
  std::string path_;
  sqlite3* db_ = nullptr;
};

}  // namespace walfs::testing
