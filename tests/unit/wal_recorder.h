// Records what SQLite does to its log under random statements, and the database's content after
// each.
#pragma once

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/recording_vfs.h"
#include "tests/unit/sqlite_directory.h"

namespace walfs::testing {

struct Conditions {
  int page_size = 512;
  bool spills = false;      // A cache of a few pages: frames are overwritten within transactions.
  bool full = false;        // synchronous=FULL
  bool powersafe = true;    // Else commit frames are repeated up to the end of a sector.
  bool big_endian = false;  // The image of the log has the other checksum byte order.
  int autocheckpoint = 0;
};

// The content of the database after the events so far.
struct Mark {
  size_t events = 0;
  Bytes database;
};

struct Recording {
  std::vector<WalEvent> events;
  std::vector<Mark> marks;
};

// What SQLite reads from the database and its log: both copied, recovered and checkpointed.
inline Bytes database_content(const SqliteDirectory& source) {
  SqliteDirectory copy;
  for (const char* name : {"x.db", "x.db-wal"}) {
    if (source.exists(name)) std::filesystem::copy_file(source.path(name), copy.path(name));
  }
  copy.open();
  copy.exec("PRAGMA synchronous=OFF; PRAGMA wal_checkpoint(TRUNCATE)");
  return copy.read("x.db");
}

class Recorder {
 public:
  Recorder(const Conditions& conditions, uint32_t seed)
      : conditions_(conditions), vfs_(conditions.powersafe), random_(seed) {
    open();
    directory_.exec("CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE INDEX i ON t(b)");
    mark();
  }
  // One statement or a few that commit together, chosen by the number.
  void step(uint8_t choice) {
    static constexpr const char* kCheckpoints[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
    switch (choice % 12) {
      case 0:
      case 1:
        insert(1 + random_() % 3);
        break;
      case 2:
        insert(20);
        break;
      case 3:
        directory_.exec("UPDATE t SET b = randomblob(length(b)) WHERE a % 3 = 0");
        break;
      case 4:
        directory_.exec("DELETE FROM t WHERE a % 4 = 1");
        break;
      case 5:
      case 6:
        overwrite_in_one_transaction(choice % 2 == 0 ? "COMMIT" : "ROLLBACK");
        break;
      case 7:
        directory_.exec("BEGIN; SAVEPOINT s; UPDATE t SET b = randomblob(90); ROLLBACK TO s;");
        directory_.exec("INSERT INTO t(b) VALUES(randomblob(70)); RELEASE s; COMMIT");
        break;
      case 8:
      case 9:
        directory_.exec(std::string("PRAGMA wal_checkpoint(") + kCheckpoints[random_() % 4] + ")");
        break;
      case 10:
        directory_.exec("VACUUM");
        break;
      default:
        directory_.close();
        open();
        break;
    }
    mark();
  }
  Recording take() {
    directory_.close();
    Recording recording{std::move(vfs_.events()), std::move(marks_)};
    recording.marks.push_back({recording.events.size(), recording.marks.back().database});
    return recording;
  }

 private:
  void open() {
    directory_.open(RecordingVfs::kName);
    directory_.exec("PRAGMA page_size=" + std::to_string(conditions_.page_size) +
                    "; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=" +
                    std::to_string(conditions_.autocheckpoint) +
                    "; PRAGMA synchronous=" + (conditions_.full ? "FULL" : "NORMAL") +
                    "; PRAGMA cache_size=" + (conditions_.spills ? "3" : "500") +
                    "; PRAGMA cache_spill=" + (conditions_.spills ? "3" : "0"));
  }
  void insert(size_t rows) {
    directory_.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<" +
                    std::to_string(rows) + ") INSERT INTO t(b) SELECT randomblob(" +
                    std::to_string(random_() % 400) + ") FROM n");
  }
  void overwrite_in_one_transaction(const char* end) {
    directory_.exec(
        "BEGIN; UPDATE t SET b = randomblob(100); UPDATE t SET b = randomblob(120);"
        "UPDATE t SET b = randomblob(80) WHERE a % 2 = 0;");
    directory_.exec(end);
  }
  void mark() { marks_.push_back({vfs_.events().size(), database_content(directory_)}); }

  Conditions conditions_;
  SqliteDirectory directory_;
  RecordingVfs vfs_;
  std::mt19937 random_;
  std::vector<Mark> marks_;
};

}  // namespace walfs::testing
