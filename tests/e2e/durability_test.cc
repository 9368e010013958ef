// Durability on request: with `--durability sync` a commit that has returned is in the store.
//
// WALFS_TEST_DEATHS says how often everything is killed; a few times without it.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/crowd.h"
#include "tests/support/replicated_directory.h"

namespace walfs::test {
namespace {

const JournalMode kModes[] = {
    {"wal", "NORMAL"}, {"delete", "FULL"}, {"truncate", "NORMAL"}, {"persist", "FULL"}};

std::string name_of(const JournalMode& mode) {
  return std::string(mode.journal) + ".db";
}

void make_databases(const ReplicatedDirectory& directory) {
  for (const JournalMode& mode : kModes) {
    CrowdDatabase database(directory.path(name_of(mode)), mode);
    ASSERT_TRUE(database.run("CREATE TABLE IF NOT EXISTS t(who INTEGER, text TEXT)"))
        << database.error();
  }
}

void expect_rows(const std::string& where, const Crowd& crowd) {
  for (const JournalMode& mode : kModes) {
    CrowdDatabase database(where + "/" + name_of(mode), mode);
    EXPECT_EQ(database.text("PRAGMA integrity_check"), "ok") << name_of(mode);
    for (const int64_t row : crowd.acknowledged(name_of(mode)))
      ASSERT_EQ(database.ask("SELECT count(*) FROM t WHERE rowid=" + std::to_string(row)), 1)
          << "row " << row << " of " << name_of(mode);
  }
}

// Keeper, server and applications die at once; the machine is gone, and the store is all there is.
TEST(Durability, NoCommitThatHasReturnedIsMissingInTheStore) {
  const char* wanted = std::getenv("WALFS_TEST_DEATHS");
  const int deaths = wanted != nullptr ? std::atoi(wanted) : 6;
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  size_t rows = 0;
  for (int death = 0; death < deaths && !testing::Test::HasFatalFailure(); ++death) {
    ReplicatedDirectory directory;
    directory.mount({"--durability", "sync"});
    make_databases(directory);
    Crowd crowd(directory.path(), directory.beside("outside"));
    for (const JournalMode& mode : kModes) crowd.add_writer(name_of(mode), mode);
    crowd.add_writer(name_of(kModes[0]), kModes[0]);
    usleep(50000 + random() % 250000);
    directory.crash();
    crowd.kill_all();
    std::filesystem::remove_all(directory.source());
    const std::string restored = directory.restore();
    ASSERT_NE(restored, "");
    expect_rows(restored, crowd);
    for (const JournalMode& mode : kModes) rows += crowd.acknowledged(name_of(mode)).size();
  }
  EXPECT_GT(rows, static_cast<size_t>(deaths)) << "nothing was put to the test";
}

// An answer that a server which died has held back is given by the next one, when it is true.
TEST(Durability, ServersThatDieAcknowledgeNothingThatTheStoreDoesNotHave) {
  setenv("WALFS_CRASH_POINTS", "read:400,executed:400,replied:400", 1);
  ReplicatedDirectory directory({}, ReplicatedDirectory::Where::kOverItself);
  directory.mount({"--durability", "sync"});
  unsetenv("WALFS_CRASH_POINTS");
  make_databases(directory);
  Crowd crowd(directory.path(), directory.beside("outside"));
  for (const JournalMode& mode : kModes) crowd.add_writer(name_of(mode), mode);
  EXPECT_TRUE(wait_until([&] { return directory.status().value("servers", 0) > 8; }, Seconds(90)));
  EXPECT_EQ(crowd.stop(), "") << directory.log_tail();
  const std::string restored = directory.restore();
  ASSERT_NE(restored, "");
  expect_rows(restored, crowd);
  directory.unmount();
}

// The place of the replica's log is taken away and put back, as by an outage.
class DurabilityOutage : public testing::Test {
 protected:
  void begin(const std::string& policy) {
    directory_.mount({"--durability", "sync", "--sync-policy", policy, "--sync-timeout", "300ms"});
    database_ = std::make_unique<CrowdDatabase>(directory_.path("x.db"), kModes[0]);
    ASSERT_TRUE(database_->run("CREATE TABLE t(a); INSERT INTO t VALUES(1)")) << database_->error();
    std::filesystem::rename(directory_.beside("replica/log"), directory_.beside("away"));
    std::ofstream(directory_.beside("replica/log")) << "no directory";
  }
  void end_outage() {
    std::filesystem::remove(directory_.beside("replica/log"));
    std::filesystem::rename(directory_.beside("away"), directory_.beside("replica/log"));
  }
  int64_t rows_in_store() {
    const std::string restored = directory_.restore();
    return CrowdDatabase(restored + "/x.db", kModes[0]).ask("SELECT count(*) FROM t");
  }

  ReplicatedDirectory directory_;
  std::unique_ptr<CrowdDatabase> database_;
};

TEST_F(DurabilityOutage, ACommitWaitsForTheStoreAsLongAsItTakes) {
  begin("wait");
  std::atomic<bool> returned{false};
  std::thread writer([&] {
    EXPECT_TRUE(database_->run("INSERT INTO t VALUES(2)")) << database_->error();
    returned = true;
  });
  EXPECT_TRUE(wait_until([&] { return directory_.status().value("commits_waiting", 0) == 1; }));
  usleep(600000);
  EXPECT_FALSE(returned);
  end_outage();
  writer.join();
  EXPECT_EQ(rows_in_store(), 2);
}

TEST_F(DurabilityOutage, ACommitFailsAfterTheTimeoutIfSoWanted) {
  begin("fail");
  EXPECT_FALSE(database_->run("INSERT INTO t VALUES(2)"));
  EXPECT_EQ(database_->ask("SELECT count(*) FROM t"), 1);
  end_outage();
  EXPECT_TRUE(wait_until([&] { return database_->run("INSERT INTO t VALUES(3)"); }));
  EXPECT_EQ(rows_in_store(), database_->ask("SELECT count(*) FROM t"));
}

TEST_F(DurabilityOutage, CommitsDegradeToAsyncAndBackIfSoWanted) {
  begin("degrade");
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(database_->run("INSERT INTO t VALUES(2)")) << database_->error();
  EXPECT_TRUE(directory_.status().value("degraded", false));
  end_outage();
  EXPECT_TRUE(wait_until([&] {
    EXPECT_TRUE(database_->run("INSERT INTO t VALUES(3)"));
    return !directory_.status().value("degraded", true);
  }));
  EXPECT_EQ(rows_in_store(), database_->ask("SELECT count(*) FROM t"));
}

}  // namespace
}  // namespace walfs::test
