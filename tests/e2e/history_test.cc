// Every point of the history is one instant of the whole directory: two databases written strictly
// in turn are never torn, never out of step, never older than what was acknowledged.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>

#include "replicator/restore.h"
#include "replicator/time.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

constexpr int kCommits = 200;
constexpr size_t kPointsLookedAt = 60;

class Counter {
 public:
  Counter(const std::string& path, const std::string& journal_mode, const std::string& safety) {
    sqlite3_open(path.c_str(), &database_);
    run("PRAGMA journal_mode=" + journal_mode);
    run("PRAGMA synchronous=" + safety);
    run("PRAGMA wal_autocheckpoint=20");
    run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); CREATE TABLE s(n INTEGER);"
        "INSERT INTO s VALUES(0)");
  }
  ~Counter() { sqlite3_close(database_); }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  void commit(int number) {
    const std::string n = std::to_string(number);
    run("BEGIN IMMEDIATE; INSERT INTO t VALUES(" + n + ",randomblob(3000)); UPDATE s SET n=" + n +
        "; COMMIT");
  }

 private:
  void run(const std::string& sql) {
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << sql << ": " << message;
    sqlite3_free(message);
  }
  sqlite3* database_ = nullptr;
};

std::string ask(sqlite3* database, const char* sql) {
  std::string answer;
  const auto keep = [](void* out, int, char** values, char**) {
    *static_cast<std::string*>(out) = values[0] != nullptr ? values[0] : "null";
    return 0;
  };
  char* message = nullptr;
  if (sqlite3_exec(database, sql, keep, &answer, &message) != SQLITE_OK)
    answer = message != nullptr ? message : "error";
  sqlite3_free(message);
  return answer;
}

// How many commits the database holds, after proving that it is as it was after one of them. -1
// for a database that is not there yet, -2 for a damaged one.
int commits_in(const std::string& path) {
  if (!std::filesystem::exists(path) || std::filesystem::file_size(path) == 0) return -1;
  sqlite3* database = nullptr;
  sqlite3_open(path.c_str(), &database);
  const std::string check = ask(database, "PRAGMA integrity_check");
  if (ask(database, "SELECT count(*) FROM sqlite_schema WHERE name IN ('t','s')") != "2") {
    sqlite3_close(database);
    return check == "ok" ? -1 : -2;
  }
  const std::string rows = ask(database, "SELECT count(*) FROM t");
  const std::string last = ask(database, "SELECT coalesce(max(id),0) FROM t");
  const std::string state = ask(database, "SELECT max(n) FROM s");
  sqlite3_close(database);
  EXPECT_EQ(check, "ok") << path;
  if (state.empty() || state == "null") return -1;
  EXPECT_EQ(rows, last) << path;
  EXPECT_EQ(rows, state) << path;
  return check == "ok" && rows == last && rows == state ? std::stoi(rows) : -2;
}

struct Acknowledged {
  Position position;
  int commits = 0;
};

class History : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_.mount({"--flush-interval", "20ms", "--sync-interval", "50ms"});
  }

  void write_in_turn(const std::string& mode_b, const std::string& safety) {
    Counter a(directory_.path("a.db"), "wal", safety);
    Counter b(directory_.path("b.db"), mode_b, safety);
    for (int i = 1; i <= kCommits; ++i) {
      a.commit(i);
      b.commit(i);
      if (i % 7 == 0) usleep(15000);
      if (i % 40 == 0) acknowledge(i);
    }
  }

  void acknowledge(int commits) {
    const auto position = Position::parse(directory_.sync());
    ASSERT_TRUE(position);
    acknowledged_.push_back({*position, commits});
  }

  std::vector<Position> points() {
    const Output output = run_program({walfs_binary(), "history", directory_.url(), "--json"});
    EXPECT_EQ(output.status, 0) << output.text;
    std::vector<Position> positions;
    const auto answer = nlohmann::json::parse(output.text, nullptr, false);
    if (answer.is_discarded()) return positions;
    for (const auto& point : answer["points"]) {
      const auto position = Position::parse(point["position"].get<std::string>());
      if (position) positions.push_back(*position);
    }
    return positions;
  }

  void expect_consistent(Store& store, Position position) {
    SCOPED_TRACE("position " + position.to_string());
    const std::string target = directory_.beside("point");
    RestoreOptions options;
    options.target.position = position;
    const auto report = restore(store, target, options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    const int a = commits_in(target + "/a.db");
    const int b = commits_in(target + "/b.db");
    std::filesystem::remove_all(target);
    ASSERT_NE(a, -2);
    ASSERT_NE(b, -2);
    if (a >= 0 && b >= 0) {
      EXPECT_GE(a - b, 0) << a << " " << b;
      EXPECT_LE(a - b, 1) << a << " " << b;
    } else {
      EXPECT_LE(a, 0);
    }
    EXPECT_GE(a, last_a_);
    EXPECT_GE(b, last_b_);
    last_a_ = a;
    last_b_ = b;
    for (const Acknowledged& sync : acknowledged_) {
      if (sync.position > position) break;
      EXPECT_GE(b, sync.commits) << "synced at " << sync.position.to_string();
    }
  }

  void check_points() {
    const std::vector<Position> all = points();
    ASSERT_GT(all.size(), 10u);
    auto store = open_store(directory_.url(), {}, false);
    ASSERT_TRUE(store.ok());
    const size_t step = std::max<size_t>(1, all.size() / kPointsLookedAt);
    for (size_t i = 0; i < all.size() && !HasFatalFailure(); i += step)
      expect_consistent(**store, all[i]);
    for (const Acknowledged& sync : acknowledged_)
      EXPECT_TRUE(std::find(all.begin(), all.end(), sync.position) != all.end());
    expect_consistent(**store, all.back());
    EXPECT_EQ(last_a_, kCommits);
    EXPECT_EQ(last_b_, kCommits);
  }

  ReplicatedDirectory directory_;
  std::vector<Acknowledged> acknowledged_;
  int last_a_ = -1, last_b_ = -1;
};

TEST_F(History, EveryPointIsOneInstantOfTwoDatabasesInWalMode) {
  write_in_turn("wal", "NORMAL");
  acknowledge(kCommits);
  check_points();
}

TEST_F(History, EveryPointIsOneInstantOfAWalAndARollbackJournal) {
  write_in_turn("delete", "FULL");
  acknowledge(kCommits);
  check_points();
}

TEST_F(History, ATimeBetweenTwoCommitsRestoresTheFirst) {
  std::string time;
  {
    Counter a(directory_.path("a.db"), "wal", "NORMAL");
    for (int i = 1; i <= 10; ++i) a.commit(i);
    directory_.sync();
    usleep(30000);
    time = format_time(now_ns());
    usleep(30000);
    for (int i = 11; i <= 20; ++i) a.commit(i);
  }
  directory_.sync();
  const std::string before = directory_.restore({"--at", time});
  EXPECT_EQ(commits_in(before + "/a.db"), 10);
  const std::string after = directory_.restore();
  EXPECT_EQ(commits_in(after + "/a.db"), 20);
}

TEST_F(History, ATimeBeforeTheFirstPointIsNotThere) {
  directory_.sync();
  const Output output = run_program({walfs_binary(), "restore", directory_.url(),
                                     directory_.beside("early"), "--at", "2001-01-01T00:00:00Z"});
  EXPECT_EQ(output.status, 3) << output.text;
  EXPECT_FALSE(std::filesystem::exists(directory_.beside("early")));
}

TEST(FirstUpload, ThePositionThatSyncTellsMeanwhileCanBeRestored) {
  ReplicatedDirectory directory;
  std::ofstream(directory.source() + "/file") << std::string(20 << 20, 'x');
  directory.mount();
  const std::string position = directory.sync();
  const std::string restored = directory.restore({"--at", position});
  EXPECT_EQ(std::filesystem::file_size(restored + "/file"), 20U << 20);
}

TEST_F(History, APositionThatSyncTellsCanBeRestoredAlsoWhenNothingChangedSinceTheMount) {
  { Counter(directory_.path("a.db"), "wal", "NORMAL").commit(1); }
  directory_.sync();
  directory_.unmount();
  directory_.mount();
  const std::string position = directory_.sync();
  const std::string restored = directory_.restore({"--at", position});
  EXPECT_EQ(commits_in(restored + "/a.db"), 1);
}

}  // namespace
}  // namespace walfs::test
