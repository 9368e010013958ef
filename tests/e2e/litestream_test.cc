// Replicas that the real Litestream v0.3 has written while a database was in use: what walfs
// restores of them is byte for byte what Litestream restores, the newest state and older ones.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/litestream_process.h"
#include "tests/support/mounted_directory.h"
#include "tests/support/replica_place.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kStatesLookedAt = 12;

// Litestream takes locks of its own, for which an application has to wait.
sqlite3* open_database(const std::string& path) {
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_busy_timeout(database, 20000);
  return database;
}

void run(sqlite3* database, const std::string& sql) {
  char* message = nullptr;
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
      << sql << ": " << message;
  sqlite3_free(message);
}

std::string ask(const std::string& path, const char* sql) {
  sqlite3* database = open_database(path);
  std::string answer;
  const auto keep = [](void* out, int, char** values, char**) {
    *static_cast<std::string*>(out) = values[0] != nullptr ? values[0] : "null";
    return 0;
  };
  EXPECT_EQ(sqlite3_exec(database, sql, keep, &answer, nullptr), SQLITE_OK)
      << sqlite3_errmsg(database);
  sqlite3_close(database);
  return answer;
}

// Transactions of all sizes, some of which are rolled back.
void write_for(const std::string& path, std::chrono::milliseconds time, uint32_t seed) {
  sqlite3* database = open_database(path);
  std::mt19937 random(seed);
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
    run(database, "BEGIN IMMEDIATE");
    for (uint32_t rows = 1 + random() % 30; rows > 0; --rows)
      run(database, "INSERT INTO t(v) VALUES(randomblob(" + std::to_string(random() % 6000) + "))");
    run(database, "DELETE FROM t WHERE id%11=" + std::to_string(random() % 11));
    run(database, random() % 5 == 0 ? "ROLLBACK" : "COMMIT");
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 10));
  }
  sqlite3_close(database);
}

class LitestreamReplicas {
 public:
  explicit LitestreamReplicas(const std::string& url)
      : url_(url.empty() ? "file://" + scratch_.path("app.db") : url),
        litestream_(source(), url_, scratch_.path()) {
    sqlite3* database = open_database(source());
    run(database, "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)");
    sqlite3_close(database);
  }

  void write(std::chrono::milliseconds time) {
    std::thread other(write_for, source(), time, 1);
    write_for(source(), time, 2);
    other.join();
  }

  // Killed, stopped, and without what was written meanwhile: generations of several logs each.
  void replicate() {
    litestream_.start();
    write(std::chrono::milliseconds(4000));
    litestream_.stop(SIGKILL);
    sqlite3* database = open_database(source());
    run(database, "INSERT INTO t(v) VALUES('unseen'); PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_close(database);
    litestream_.start();
    write(std::chrono::milliseconds(3500));
    litestream_.stop(SIGKILL);
    litestream_.start();
    write(std::chrono::milliseconds(2000));
    std::this_thread::sleep_for(std::chrono::seconds(1));  // It ships what is left.
    litestream_.stop(SIGTERM);
  }

  Output walfs(const std::vector<std::string>& words) const {
    std::vector<std::string> all{walfs_binary()};
    all.insert(all.end(), words.begin(), words.end());
    return run_program(all);
  }
  // Where walfs has put the database; "" after a failure.
  std::string restored(const std::vector<std::string>& options) {
    const std::string target = scratch_.path("restored-" + std::to_string(++targets_));
    std::vector<std::string> words{"restore", url_, target, "--json"};
    words.insert(words.end(), options.begin(), options.end());
    const Output output = walfs(words);
    EXPECT_EQ(output.status, 0) << output.text << litestream_.log();
    if (output.status != 0) return "";
    return target + "/" + json::parse(output.text).at("file").get<std::string>();
  }
  // False where Litestream v0.3.13 has no answer: it ends with a panic at times between a snapshot
  // and the first piece of its log, and finds nothing at times between two generations, of which
  // the last millisecond of one can be. walfs restores the state before then.
  bool expect_same(const std::string& time) {
    const std::string theirs = scratch_.path("theirs-" + std::to_string(targets_ + 1));
    const Output output = litestream_.restore(theirs, time);
    const auto says = [&](const char* what) { return output.text.find(what) != std::string::npos; };
    const bool fails = says("panic: makechan") || says("no matching backups found");
    EXPECT_TRUE(output.status == 0 || fails) << time << ": " << output.text;
    const std::string ours = restored(time.empty() ? std::vector<std::string>{}
                                                   : std::vector{std::string("--at"), time});
    EXPECT_FALSE(ours.empty()) << time;
    if (fails || ours.empty()) return false;
    EXPECT_TRUE(read_file_as<std::string>(ours) == read_file_as<std::string>(theirs))
        << time << ": " << history().dump(1) << output.text;
    return true;
  }
  json history() const {
    const Output output = walfs({"history", url_, "--json"});
    EXPECT_EQ(output.status, 0) << output.text;
    return json::parse(output.text).at("points");
  }

  std::string source() const { return scratch_.path("source.db"); }
  const std::string& url() const { return url_; }
  std::string beside(const std::string& name) const { return scratch_.path(name); }

 private:
  ScratchDirectory scratch_;
  std::string url_;
  Litestream litestream_;
  int targets_ = 0;
};

void expect_the_same_of(LitestreamReplicas& replicas) {
  replicas.replicate();
  const json points = replicas.history();
  std::set<std::string> generations;
  std::set<std::string> indexes;
  for (const json& point : points) {
    const std::string position = point.at("position");
    generations.insert(position.substr(0, 16));
    indexes.insert(position.substr(0, 25));
  }
  EXPECT_GE(generations.size(), 2U);
  EXPECT_GE(indexes.size(), 6U);
  EXPECT_TRUE(replicas.expect_same(""));
  const size_t step = std::max<size_t>(1, points.size() / kStatesLookedAt);
  size_t compared = 0;
  for (size_t i = 0; i < points.size(); i += step)
    compared += replicas.expect_same(points[i].at("time")) ? 1 : 0;
  EXPECT_GE(compared, kStatesLookedAt / 2);
  const char* question = "SELECT count(*) || ' ' || total(id) || ' ' || total(length(v)) FROM t";
  EXPECT_EQ(ask(replicas.restored({}), question), ask(replicas.source(), question));
}

TEST(LitestreamInADirectory, IsRestoredAsLitestreamRestoresIt) {
  LitestreamReplicas replicas(replica_url(Place::kDirectory));
  expect_the_same_of(replicas);
}

TEST(LitestreamInS3, IsRestoredAsLitestreamRestoresIt) {
  LitestreamReplicas replicas(replica_url(Place::kS3));
  expect_the_same_of(replicas);
}

void expect_said(const Output& output, int status, const std::string& what) {
  EXPECT_EQ(output.status, status) << output.text;
  EXPECT_TRUE(output.text.starts_with("walfs: ")) << output.text;
  EXPECT_NE(output.text.find(what), std::string::npos) << output.text;
}

TEST(LitestreamInADirectory, WhatCannotBeDoneIsSaid) {
  LitestreamReplicas replicas(replica_url(Place::kDirectory));
  replicas.replicate();
  const std::string& url = replicas.url();
  const std::string target = replicas.beside("target");
  expect_said(replicas.walfs({"restore", url, target, "--only", "*.db"}), 2, "--only");
  expect_said(replicas.walfs({"restore", url, target, "--at", "0000010000000001"}), 2, "--at");
  expect_said(replicas.walfs({"restore", url, target, "--at", "2001-01-01T00:00:00Z"}), 3,
              "the oldest state");
  expect_said(replicas.walfs({"verify", url}), 2, "Litestream");
  expect_said(replicas.walfs({"restore", "file://" + replicas.beside(""), target}), 3,
              "none of Litestream");
  // One byte of the newest log.
  std::vector<std::string> logs;
  const std::string generation =
      std::string(replicas.history().back().at("position")).substr(0, 16);
  for (const auto& entry :
       fs::directory_iterator(replicas.beside("app.db") + "/generations/" + generation + "/wal"))
    logs.push_back(entry.path().filename());
  std::sort(logs.begin(), logs.end());
  const std::string key = "generations/" + generation + "/wal/" + logs.back();
  Bytes object = read_whole(replicas.beside("app.db/") + key);
  object[object.size() / 2] ^= 1;
  write_whole(replicas.beside("app.db/") + key, object);
  expect_said(replicas.walfs({"restore", url, target}), 1, key);
  EXPECT_FALSE(fs::exists(target));
}

}  // namespace
}  // namespace walfs::test
