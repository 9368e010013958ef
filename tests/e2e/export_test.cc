// Moving out: what walfs export makes of a replica is read, restored and continued by the real
// Litestream v0.5.17.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "replicator/time.h"
#include "tests/support/litestream_extension.h"
#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Database {
 public:
  Database(const std::string& path, int page_size, const std::string& journal) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &handle_), SQLITE_OK);
    run("PRAGMA page_size=" + std::to_string(page_size));
    run("PRAGMA journal_mode=" + journal + "; PRAGMA wal_autocheckpoint=0");
  }
  ~Database() { sqlite3_close(handle_); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void run(const std::string& sql) {
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << sql << ": " << message;
    sqlite3_free(message);
  }
  // Several tables, values of every type, pages that overflow and pages that are free.
  void fill() {
    run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB, w TEXT); CREATE INDEX i ON t(w);"
        "CREATE TABLE u(a, b, PRIMARY KEY(a)) WITHOUT ROWID; CREATE VIEW s AS SELECT w FROM t;"
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<400)"
        "INSERT INTO t(v,w) SELECT randomblob(x*7), hex(randomblob(20)) FROM n;"
        "INSERT INTO t(v) VALUES(zeroblob(200000)),(randomblob(150000)),(NULL),(0.5);"
        "INSERT INTO u SELECT id, w FROM t; DELETE FROM t WHERE id%5=0");
  }

 private:
  sqlite3* handle_ = nullptr;
};

const std::vector<std::string> kEverything{"PRAGMA integrity_check", ".dump"};

class LitestreamExports {
 public:
  // `prepare` is given the directory before it is mounted.
  explicit LitestreamExports(const std::string& url = "",
                             const std::function<void(const std::string&)>& prepare = {})
      : directory_(url) {
    if (prepare) prepare(directory_.source());
    directory_.mount({"--sync-interval", "50ms"});
  }

  Output walfs_export(std::vector<std::string> options = {}) {
    target_ = directory_.beside("export-" + std::to_string(++targets_));
    options.insert(options.begin(),
                   {walfs_binary(), "export", directory_.url(), target_, "--format", "litestream"});
    return run_program(options, Seconds(120));
  }
  LitestreamExtension litestream(const std::string& database) {
    return {"file://" + target_ + "/" + database,
            directory_.beside("litestream-" + std::to_string(++asked_))};
  }
  // By SQLite itself, of the database in the mount.
  std::string original(const std::string& database) const {
    std::vector<std::string> words{"sqlite3", directory_.path(database)};
    words.insert(words.end(), kEverything.begin(), kEverything.end());
    return run_program(words, Seconds(60)).text;
  }
  // The official reader finds every table as it is in the mount, and the official restore gives
  // the bytes that walfs restore gives.
  void expect_same(const std::string& database, const std::string& restored) {
    SCOPED_TRACE(database);
    const Output read = litestream(database).ask(kEverything);
    EXPECT_EQ(read.status, 0);
    EXPECT_TRUE(read.text.starts_with("ok\n")) << read.text.substr(0, 500);
    EXPECT_TRUE(read.text == original(database)) << read.text.substr(0, 500);
    const std::string theirs = litestream(database).restore();
    ASSERT_FALSE(theirs.empty());
    EXPECT_TRUE(read_whole(theirs) == read_whole(restored + "/" + database));
  }

  ReplicatedDirectory& directory() { return directory_; }
  const std::string& target() const { return target_; }

 private:
  ReplicatedDirectory directory_;
  std::string target_;
  int targets_ = 0;
  int asked_ = 0;
};

void expect_every_database_read(LitestreamExports& exports) {
  ReplicatedDirectory& directory = exports.directory();
  std::map<std::string, std::unique_ptr<Database>> databases;
  fs::create_directories(directory.path("db/deeper"));
  for (const int page_size : {512, 4096, 65536}) {
    for (const char* journal : {"WAL", "DELETE"}) {
      const std::string path =
          std::string(page_size == 512 ? "" : "db/deeper/") + journal + std::to_string(page_size);
      auto& database = databases[path];
      database = std::make_unique<Database>(directory.path(path), page_size, journal);
      database->fill();
    }
  }
  std::ofstream(directory.path("db/text")) << "no database";
  ASSERT_FALSE(directory.sync().empty());
  // What the databases have committed is in their logs alone.
  EXPECT_GT(fs::file_size(directory.path("WAL512-wal")), 100000U);
  const Output output = exports.walfs_export();
  ASSERT_EQ(output.status, 0) << output.text;
  EXPECT_NE(output.text.find("exported 6 databases ("), std::string::npos) << output.text;
  EXPECT_NE(output.text.find("\n1 other file is not part of a Litestream replica"),
            std::string::npos)
      << output.text;
  const std::string restored = directory.restore();
  for (const auto& [path, database] : databases) {
    EXPECT_NE(output.text.find("  file://" + exports.target() + "/" + path + "\n"),
              std::string::npos)
        << output.text;
    exports.expect_same(path, restored);
  }
  EXPECT_FALSE(fs::exists(exports.target() + "/db/text"));
}

TEST(LitestreamReadsExports, OfEveryDatabaseInADirectory) {
  LitestreamExports exports;
  expect_every_database_read(exports);
}

TEST(LitestreamReadsExports, OfEveryDatabaseInS3) {
  LitestreamExports exports(replica_url(Place::kS3));
  expect_every_database_read(exports);
}

TEST(LitestreamReadsExports, OfOneDatabaseAsItWasBefore) {
  LitestreamExports exports;
  ReplicatedDirectory& directory = exports.directory();
  for (const char* path : {"app.db", "other.db"}) {
    Database(directory.path(path), 4096, "WAL").run("CREATE TABLE t(v); INSERT INTO t VALUES(1)");
  }
  const std::string before = directory.sync();
  Database(directory.path("app.db"), 4096, "WAL").run("INSERT INTO t VALUES(2)");
  directory.sync();
  const Output output = exports.walfs_export({"--at", before, "--only", "a*", "--json"});
  ASSERT_EQ(output.status, 0) << output.text;
  const json answer = json::parse(output.text);
  EXPECT_EQ(answer.at("position"), before);
  EXPECT_EQ(answer.at("other_files"), 0);
  ASSERT_EQ(answer.at("databases").size(), 1U);
  EXPECT_EQ(answer.at("databases")[0].at("path"), "app.db");
  EXPECT_EQ(answer.at("databases")[0].at("url"), "file://" + exports.target() + "/app.db");
  const Output read = exports.litestream("app.db").ask({"SELECT v FROM t"});
  EXPECT_EQ(read.text, "1\n");
  const Output time = exports.litestream("app.db").ask({"SELECT litestream_time()"});
  EXPECT_EQ(parse_time(time.text.substr(0, time.text.find('\n'))),
            parse_time(answer.at("time").get<std::string>()))
      << time.text;
  ASSERT_EQ(exports.walfs_export({"--at", "0 seconds ago"}).status, 0);
  EXPECT_EQ(exports.litestream("app.db").ask({"SELECT v FROM t"}).text, "1\n2\n");
}

// Litestream finds a name in a URL only if there is nothing in it to encode.
TEST(LitestreamReadsExports, WhoseUrlsAreGivenWhereItTakesThem) {
  LitestreamExports exports;
  ReplicatedDirectory& directory = exports.directory();
  const std::string usual = "a-1_b.~$&+,:;=@!'()*[].db";
  for (const std::string& path : {usual, std::string("my app.db"), std::string("a?.db")})
    Database(directory.path(path), 4096, "WAL").run("CREATE TABLE t(v); INSERT INTO t VALUES(1)");
  directory.sync();
  const Output output = exports.walfs_export({"--json"});
  ASSERT_EQ(output.status, 0) << output.text;
  const json answer = json::parse(output.text);
  ASSERT_EQ(answer.at("databases").size(), 3U);
  for (const json& database : answer.at("databases")) {
    const std::string path = database.at("path");
    EXPECT_EQ(database.at("url"),
              path == usual ? json("file://" + exports.target() + "/" + usual) : json());
    EXPECT_TRUE(fs::exists(exports.target() + "/" + path + "/ltx"));
  }
  EXPECT_EQ(exports.litestream(usual).ask({"SELECT v FROM t"}).text, "1\n");
}

// Its writer counts on from our snapshot, and both readers see what it adds.
TEST(LitestreamReadsExports, AndGoesOnWritingBehindThem) {
  LitestreamExports exports;
  ReplicatedDirectory& directory = exports.directory();
  Database(directory.path("app.db"), 4096, "WAL").fill();
  directory.sync();
  ASSERT_EQ(exports.walfs_export().status, 0);
  const Output written = exports.litestream("app.db").write(
      {"INSERT INTO t(id,w) VALUES(7000,'by Litestream')", "SELECT count(*) FROM t"});
  EXPECT_EQ(written.status, 0) << written.text;
  const std::string question = "SELECT count(*), max(id), max(w) FROM t";
  const Output read = exports.litestream("app.db").ask({question, "SELECT litestream_txid()"});
  const std::string url = "file://" + exports.target() + "/app.db";
  const std::string restored = directory.beside("restored-by-walfs");
  ASSERT_EQ(run_program({walfs_binary(), "restore", url, restored}).status, 0);
  const Output ours = run_program({"sqlite3", restored + "/app.db", question});
  EXPECT_NE(ours.text.find("|7000|by Litestream\n"), std::string::npos) << ours.text;
  EXPECT_EQ(read.text, ours.text + "0000000000000002\n");
}

// Dies in the middle of a transaction that has overwritten pages.
void leave_hot_journal(const std::string& path) {
  const int status = run_in_child([&] {
    Database database(path, 4096, "DELETE");
    database.fill();
    database.run("PRAGMA cache_size=5; BEGIN; UPDATE t SET v=randomblob(4000)");
    return kill(getpid(), SIGKILL);
  });
  ASSERT_EQ(status, 128 + SIGKILL);
  ASSERT_GT(fs::file_size(path + "-journal"), 0U);
}

// Litestream has no place for the journal that would roll it back.
TEST(LitestreamReadsExports, ButOfNoneInTheMiddleOfATransaction) {
  LitestreamExports exports(
      "", [](const std::string& source) { leave_hot_journal(source + "/app.db"); });
  ReplicatedDirectory& directory = exports.directory();
  directory.sync();
  const Output refused = exports.walfs_export();
  EXPECT_EQ(refused.status, 1) << refused.text;
  EXPECT_NE(refused.text.find("app.db has a journal to roll back"), std::string::npos)
      << refused.text;
  EXPECT_FALSE(fs::exists(exports.target()));
  // Whoever opens it rolls it back.
  exports.original("app.db");
  directory.sync();
  ASSERT_EQ(exports.walfs_export().status, 0);
  exports.expect_same("app.db", directory.restore());
}

// A database that reaches beyond the page with the lock bytes at 1 GiB, which no LTX file has.
class LargeExport : public ::testing::Test {
 protected:
  LargeExport() {
    Database database(exports_.directory().path("large.db"), 65536, "DELETE");
    database.run("PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)");
    for (int i = 0; i < 6; ++i) database.run("INSERT INTO t(v) VALUES(zeroblob(190000000))");
    database.run("INSERT INTO t(v) VALUES('the end')");
    exports_.directory().sync();
  }
  std::vector<std::string> exports_in_progress() {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(exports_.directory().beside("")))
      if (entry.path().filename().string().ends_with(".exporting")) found.push_back(entry.path());
    return found;
  }
  LitestreamExports exports_;
};

TEST_F(LargeExport, HasNoLockPageAndLeavesNothingWhenItIsInterrupted) {
  const std::string source = exports_.directory().path("large.db");
  ASSERT_GT(fs::file_size(source), uint64_t{1} << 30);
  const std::string target = exports_.directory().beside("interrupted");
  Child child([&] {
    execl(walfs_binary().c_str(), "walfs", "export", exports_.directory().url().c_str(),
          target.c_str(), "--format", "litestream", nullptr);
    return 127;
  });
  ASSERT_TRUE(wait_until([&] { return !exports_in_progress().empty(); }));
  kill(child.pid(), SIGINT);
  EXPECT_EQ(child.wait(), 1);
  EXPECT_TRUE(exports_in_progress().empty());
  EXPECT_FALSE(fs::exists(target));

  ASSERT_EQ(exports_.walfs_export().status, 0);
  const LitestreamExtension litestream = exports_.litestream("large.db");
  const Output read =
      litestream.ask({"PRAGMA integrity_check", "SELECT count(*), sum(length(v)) FROM t",
                      "SELECT v FROM t WHERE id=7"});
  EXPECT_EQ(read.text, "ok\n7|1140000007\nthe end\n");
  const std::string theirs = litestream.restore();
  ASSERT_FALSE(theirs.empty()) << litestream.log();
  EXPECT_EQ(run_program({"cmp", theirs, source}, Seconds(60)).text, "");
}

}  // namespace
}  // namespace walfs::test
