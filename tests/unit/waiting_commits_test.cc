// Which requests wait for the store where commits do: the one that ended a transaction, whoever
// else has found the transaction before it was told.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fs/tracking/commit_gate.h"
#include "tests/support/read_file.h"
#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

// What another transaction adds to the log of a copy of the database.
std::string next_frames(const TrackedDirectory& directory, const std::string& name) {
  const ScratchDirectory scratch;
  for (const char* suffix : {"", "-wal"})
    std::filesystem::copy_file(directory.source(name) + suffix, scratch.path(name) + suffix);
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(scratch.path(name).c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, "INSERT INTO t(b) VALUES(2)", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto log = read_file_as<std::string>(scratch.path(name) + "-wal");
  sqlite3_close(db);
  return log.substr(std::filesystem::file_size(directory.source(name) + "-wal"));
}

TEST(WaitingCommits, ArePassedOnByNoCutThatFoundThemFirst) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  Tracker& tracker = directory.tracker();
  tracker.set_write_through();
  databases.open("x.db", "PRAGMA journal_mode=WAL");
  databases.exec("x.db", "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t(b) VALUES(1)");
  CommitGate gate({[] { return std::optional<Position>(); },
                   [](Position, std::chrono::milliseconds) { return true; }, [] { return false; },
                   [] { return true; }, [] { return int64_t{0}; }},
                  SyncPolicy::kWait, 0);
  directory.sync();
  tracker.set_stored_order(tracker.current_order());
  gate.take_committed();
  const std::string frames = next_frames(directory, "x.db");
  ASSERT_FALSE(frames.empty());
  databases.die();
  // The request is executed, and a cut comes before it is told.
  const uint64_t end = std::filesystem::file_size(directory.source("x.db-wal"));
  {
    const FileDescriptor log(::open(directory.source("x.db-wal").c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(log.get(), frames.data(), frames.size(), static_cast<off_t>(end)),
              static_cast<ssize_t>(frames.size()));
  }
  tracker.read_log(*tracker.open_path("x.db"));
  const NodeId node = directory.mount().find("x.db-wal");
  ASSERT_NE(node, 0U);
  tracker.wrote(directory.mount().operations().nodes().get(node)->tracked(), end, frames.size());
  EXPECT_TRUE(gate.take_committed());
}

// Whatever a server finds that follows one that died while a database was made.
TEST(WaitingCommits, AreNotSealedWithoutADatabaseThatTheReplicaDoesNotHaveYet) {
  for (const char* mode : {"WAL", "DELETE", "PERSIST"}) {
    bool died = true;
    for (int death = 1; died; ++death) {
      SCOPED_TRACE(std::string(mode) + ", after change " + std::to_string(death));
      TrackedDirectory directory({.write_through = true});
      TrackedDatabases databases(directory);
      int change = 0;
      died = false;
      databases.after_change = [&] {
        if (++change != death) return;
        died = true;
        directory.die();
        directory.resume();
        directory.read_unread();
      };
      databases.open("x.db", std::string("PRAGMA journal_mode=") + mode);
      databases.exec("x.db", "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
      databases.after_change = nullptr;
      std::optional<Position> position;
      for (int round = 0; round < 10 && !position; ++round) position = directory.seal_committed();
      ASSERT_TRUE(position);
      directory.seal();
      databases.expect_newest_restored();
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace walfs::test
