// Writes what Litestream v0.3 would write of a real database, object by object, and knows what each
// state of the replica has to become.
#pragma once

#include <gtest/gtest.h>
#include <lz4frame.h>
#include <sqlite3.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/support/memory_store.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {

// With the checksum of the content, as Litestream writes it.
inline Bytes lz4(ByteView content) {
  LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
  preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  Bytes stored(LZ4F_compressFrameBound(content.size(), &preferences));
  const size_t size = LZ4F_compressFrame(stored.data(), stored.size(), content.data(),
                                         content.size(), &preferences);
  EXPECT_EQ(LZ4F_isError(size), 0U);
  stored.resize(size);
  return stored;
}

class LitestreamReplica {
 public:
  struct State {
    std::string position;
    int64_t time_ns = 0;
    Bytes database;
  };

  explicit LitestreamReplica(MemoryStore& store, int page_size = 4096) : store_(store) {
    EXPECT_EQ(sqlite3_open(path("db").c_str(), &database_), SQLITE_OK);
    run("PRAGMA page_size=" + std::to_string(page_size));
    run("PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0");
    run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); CREATE INDEX i ON t(v)");
  }
  ~LitestreamReplica() { sqlite3_close(database_); }
  LitestreamReplica(const LitestreamReplica&) = delete;
  LitestreamReplica& operator=(const LitestreamReplica&) = delete;

  void run(const std::string& sql) {
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << sql << ": " << message;
    sqlite3_free(message);
  }
  void insert(int rows) {
    for (int i = 0; i < rows; ++i) run("INSERT INTO t(v) VALUES(randomblob(700))");
  }

  // A new run of Litestream: the database, then its log from the beginning.
  void begin_generation(const std::string& name, uint32_t index = 0) {
    run("PRAGMA wal_checkpoint(TRUNCATE)");
    generation_ = name;
    index_ = index;
    offset_ = 0;
    insert(1);  // Litestream does the like, so that there is a log.
    snapshot();
    sync();
  }
  void snapshot() {
    put(key("snapshots", number(index_) + ".snapshot.lz4"), read_whole(path("db")));
  }
  // The next piece of the log.
  void sync() {
    const Bytes log = read_whole(path("db-wal"));
    ASSERT_GT(log.size(), offset_);
    const std::string name = number(index_) + "_" + number(offset_);
    put(key("wal", name + ".wal.lz4"), ByteView(log).subspan(offset_));
    states.push_back({generation_ + "/" + number(index_) + "/" + number(offset_), time_ns_, now()});
    offset_ = log.size();
  }
  // The log begins anew, with other salts.
  void restart() {
    run("PRAGMA wal_checkpoint(TRUNCATE)");
    ++index_;
    offset_ = 0;
  }

  // Replaces what an object holds.
  template <typename Change>
  void change(const std::string& object, Change change) {
    Bytes content = contents_.at(object);
    change(content);
    store_.set_object(object, lz4(content));
  }
  const Bytes& content(const std::string& object) const { return contents_.at(object); }

  static constexpr int64_t kStep = 10'000'000'000;
  std::vector<State> states;      // One behind each piece.
  std::vector<std::string> keys;  // In the order in which they were written.

 private:
  static std::string number(uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof(text), "%08llx", static_cast<unsigned long long>(value));
    return text;
  }
  std::string path(const std::string& name) const { return scratch_.path(name); }
  std::string key(const std::string& kind, const std::string& name) const {
    return "generations/" + generation_ + "/" + kind + "/" + name;
  }
  void put(const std::string& object, ByteView content) {
    time_ns_ += kStep;
    contents_[object] = Bytes(content.begin(), content.end());
    store_.set_object(object, lz4(content));
    store_.set_time(object, time_ns_);
    keys.push_back(object);
  }
  // What SQLite makes of the database and its log.
  Bytes now() const {
    write_whole(path("copy"), read_whole(path("db")));
    write_whole(path("copy-wal"), read_whole(path("db-wal")));
    sqlite3* copy = nullptr;
    EXPECT_EQ(sqlite3_open(path("copy").c_str(), &copy), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(copy, "PRAGMA synchronous=OFF; PRAGMA wal_checkpoint(TRUNCATE)", nullptr,
                           nullptr, nullptr),
              SQLITE_OK);
    Bytes content = read_whole(path("copy"));
    sqlite3_close(copy);
    std::remove(path("copy").c_str());
    return content;
  }

  MemoryStore& store_;
  ScratchDirectory scratch_;
  sqlite3* database_ = nullptr;
  std::string generation_;
  uint32_t index_ = 0;
  uint64_t offset_ = 0;
  int64_t time_ns_ = 1'700'000'000'000'000'000;
  std::map<std::string, Bytes> contents_;
};

}  // namespace walfs::test
