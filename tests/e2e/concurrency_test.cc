// Nobody but the application holds locks: what SQLite says to two processes at one database is what
// it says in a plain directory.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <sstream>

#include "tests/support/replicated_directory.h"

namespace walfs::test {
namespace {

constexpr int kTransactions = 150;

struct Mode {
  const char* journal;
  const char* safety;
};
const Mode kModes[] = {{"wal", "NORMAL"}, {"wal", "FULL"}, {"delete", "FULL"}, {"persist", "OFF"}};

struct Tally {
  int done = 0;
  int busy = 0;
  int other = 0;  // Any other error: never right.
};

int run(sqlite3* database, const std::string& sql) {
  return sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr);
}

// Without a timeout: every lock of somebody else is an error at once.
Tally write_rows(const std::string& path, const Mode& mode, int who) {
  Tally tally;
  sqlite3* database = nullptr;
  sqlite3_open(path.c_str(), &database);
  run(database, std::string("PRAGMA synchronous=") + mode.safety);
  run(database, "PRAGMA wal_autocheckpoint=10");
  for (int i = 0; i < kTransactions; ++i) {
    const int code = run(database, "BEGIN IMMEDIATE; INSERT INTO t(who) VALUES(" +
                                       std::to_string(who) + "); UPDATE c SET n=n+1; COMMIT");
    if (code == SQLITE_OK) ++tally.done;
    if (code == SQLITE_BUSY) ++tally.busy;
    if (code != SQLITE_OK && code != SQLITE_BUSY) ++tally.other;
    if (sqlite3_get_autocommit(database) == 0) run(database, "ROLLBACK");
    if (i % 20 == 0) run(database, "PRAGMA wal_checkpoint(PASSIVE)");
  }
  sqlite3_close(database);
  return tally;
}

void prepare(const std::string& path, const Mode& mode) {
  sqlite3* database = nullptr;
  sqlite3_open(path.c_str(), &database);
  run(database, std::string("PRAGMA journal_mode=") + mode.journal);
  run(database, "CREATE TABLE t(who INTEGER); CREATE TABLE c(n INTEGER); INSERT INTO c VALUES(0)");
  sqlite3_close(database);
}

std::string answer_of(const std::string& path, const std::string& sql) {
  Output output = run_program({"sqlite3", path, sql});
  while (!output.text.empty() && output.text.back() == '\n') output.text.pop_back();
  return output.text;
}

// Both count what was acknowledged to them; a pipe carries the child's tally home.
Tally two_processes(const std::string& path, const Mode& mode) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Child other([&] {
    const Tally tally = write_rows(path, mode, 2);
    return write(ends[1], &tally, sizeof tally) == sizeof tally ? 0 : 1;
  });
  Tally sum = write_rows(path, mode, 1);
  Tally theirs;
  EXPECT_EQ(other.wait(Seconds(60)), 0);
  EXPECT_EQ(read(ends[0], &theirs, sizeof theirs), static_cast<ssize_t>(sizeof theirs));
  close(ends[0]);
  close(ends[1]);
  sum.done += theirs.done;
  sum.busy += theirs.busy;
  sum.other += theirs.other;
  return sum;
}

void expect_nothing_lost(const std::string& path, int acknowledged) {
  const std::string expected = std::to_string(acknowledged);
  EXPECT_EQ(answer_of(path, "SELECT count(*) FROM t"), expected);
  EXPECT_EQ(answer_of(path, "SELECT n FROM c"), expected);
  EXPECT_EQ(answer_of(path, "PRAGMA integrity_check"), "ok");
}

class Concurrency : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    directory_.mount({"--flush-interval", "20ms", "--sync-interval", "50ms"});
  }
  ReplicatedDirectory directory_;
};

TEST_P(Concurrency, AProcessAloneIsNeverTurnedAway) {
  const std::string path = directory_.path("x.db");
  prepare(path, GetParam());
  const Tally tally = write_rows(path, GetParam(), 1);
  EXPECT_EQ(tally.busy, 0);
  EXPECT_EQ(tally.other, 0);
  EXPECT_EQ(tally.done, kTransactions);
  expect_nothing_lost(path, tally.done);
}

TEST_P(Concurrency, TwoProcessesLoseNoCommit) {
  const std::string plain = directory_.beside("plain.db");
  for (const std::string& path : {directory_.path("x.db"), plain}) {
    SCOPED_TRACE(path);
    prepare(path, GetParam());
    const Tally tally = two_processes(path, GetParam());
    EXPECT_EQ(tally.other, 0);
    EXPECT_EQ(tally.done + tally.busy, 2 * kTransactions);
    EXPECT_GT(tally.done, 0);
    expect_nothing_lost(path, tally.done);
  }
  directory_.sync();
  const std::string restored = directory_.restore();
  ASSERT_FALSE(restored.empty());
  EXPECT_EQ(answer_of(restored + "/x.db", "SELECT count(*),n FROM t,c"),
            answer_of(directory_.path("x.db"), "SELECT count(*),n FROM t,c"));
}

// SQLite's own tool beside a process of ours: each of its failures is one line that says "locked".
TEST_P(Concurrency, TheCommandLineToolAndAProcessLoseNoCommit) {
  const std::string path = directory_.path("x.db");
  prepare(path, GetParam());
  const std::string script = directory_.beside("script.sql");
  {
    std::ofstream out(script);
    for (int i = 0; i < kTransactions; ++i) out << "INSERT INTO t(who) VALUES(3);\n";
  }
  int own = 0;
  Child writer([&] {
    const Tally tally = write_rows(path, GetParam(), 1);
    return tally.other == 0 ? 0 : 1;
  });
  const Output output = run_program({"sqlite3", path, ".read " + script}, Seconds(60));
  ASSERT_EQ(writer.wait(Seconds(60)), 0);
  int refused = 0;
  std::istringstream lines(output.text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_NE(line.find("database is locked"), std::string::npos) << line;
    ++refused;
  }
  own = std::stoi(answer_of(path, "SELECT count(*) FROM t WHERE who=3"));
  EXPECT_EQ(own, kTransactions - refused);
  EXPECT_EQ(answer_of(path, "SELECT count(*) FROM t WHERE who=1"),
            answer_of(path, "SELECT n FROM c"));
  EXPECT_EQ(answer_of(path, "PRAGMA integrity_check"), "ok");
}

INSTANTIATE_TEST_SUITE_P(Modes, Concurrency, ::testing::ValuesIn(kModes),
                         [](const ::testing::TestParamInfo<Mode>& mode) {
                           return std::string(mode.param.journal) + "_" + mode.param.safety;
                         });

}  // namespace
}  // namespace walfs::test
