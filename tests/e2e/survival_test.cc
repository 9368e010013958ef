// The server dies by kill -9, at random and at chosen places, or is replaced by another version,
// while applications use the mount: they see no error, lose nothing, and the replica has it all.
//
// WALFS_TEST_DEATHS says how often each; a few times without it.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "tests/support/crowd.h"
#include "tests/support/replicated_directory.h"

namespace walfs::test {
namespace {

const JournalMode kModes[] = {{"wal", "NORMAL"},    {"wal", "FULL"},      {"delete", "FULL"},
                              {"delete", "NORMAL"}, {"truncate", "FULL"}, {"persist", "FULL"}};

int deaths_wanted(int few) {
  const char* wanted = std::getenv("WALFS_TEST_DEATHS");
  return wanted != nullptr ? std::atoi(wanted) : few;
}

class Survival : public testing::TestWithParam<JournalMode> {
 protected:
  void begin() {
    directory_.mount();
    for (const char* name : kDatabases) {
      CrowdDatabase database(directory_.path(name), GetParam());
      ASSERT_TRUE(database.run("CREATE TABLE t(who INTEGER, text TEXT)")) << database.error();
    }
    for (const char* name : kDatabases) {
      crowd_.add_writer(name, GetParam());
      crowd_.add_reader(name, GetParam());
    }
    crowd_.add_writer(kDatabases[0], GetParam());
    crowd_.add_name_changer();
    crowd_.add_stall_probe();
  }

  int servers() const { return directory_.status().value("servers", 0); }

  // Whether so many rows of each database were acknowledged: what has had no work proves nothing.
  bool have_worked(int rows) const {
    return std::all_of(std::begin(kDatabases), std::end(kDatabases), [&](const char* name) {
      return crowd_.acknowledged(name).size() >= static_cast<size_t>(rows);
    });
  }

  void check(int rows) {
    EXPECT_EQ(crowd_.stop(), "") << directory_.log_tail();
    std::cout << "longest stall " << crowd_.longest_stall_ms() << " ms, servers " << servers();
    for (const char* name : kDatabases)
      std::cout << ", " << crowd_.acknowledged(name).size() << " rows in " << name;
    std::cout << std::endl;
    EXPECT_TRUE(have_worked(rows)) << "nothing was put to the test";
    check_databases(directory_.path());
    ASSERT_NE(directory_.sync(), "");
    const std::string restored = directory_.restore();
    ASSERT_NE(restored, "");
    check_databases(restored);
    directory_.unmount();
  }

  void check_databases(const std::string& where) {
    for (const char* name : kDatabases) {
      CrowdDatabase database(where + "/" + name, GetParam());
      EXPECT_EQ(database.text("PRAGMA integrity_check"), "ok") << where << "/" << name;
      for (const int64_t row : crowd_.acknowledged(name))
        ASSERT_EQ(database.ask("SELECT count(*) FROM t WHERE rowid=" + std::to_string(row)), 1)
            << "row " << row << " of " << where << "/" << name << ": " << database.error();
    }
  }

  static constexpr const char* kDatabases[] = {"one.db", "two.db"};
  ReplicatedDirectory directory_{{}, ReplicatedDirectory::Where::kOverItself, Seconds(900)};
  Crowd crowd_{directory_.path(), directory_.beside("outside")};
};

// On a slow machine there are more deaths, until there was work between them.
TEST_P(Survival, ApplicationsDoNotNoticeServersThatAreKilledAtRandom) {
  begin();
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  const int wanted = deaths_wanted(8);
  for (int death = 0; death < wanted || (!have_worked(wanted) && death < 50 * wanted); ++death) {
    usleep(20000 + random() % 60000);
    ASSERT_NO_FATAL_FAILURE(directory_.kill_server());
    // A busy machine must not see all of them die before they serve anything.
    if (death % 8 == 7) {
      ASSERT_TRUE(wait_until([&] { return servers() > 0; }));
    }
  }
  check(wanted);
}

TEST_P(Survival, ApplicationsDoNotNoticeServersThatDieBetweenExecutionAndReply) {
  setenv("WALFS_CRASH_POINTS", "read:2500,executed:2500,kept:2500,replied:2500", 1);
  begin();
  unsetenv("WALFS_CRASH_POINTS");
  const int wanted = deaths_wanted(8);
  EXPECT_TRUE(wait_until([&] { return servers() > wanted && have_worked(wanted); }, Seconds(600)))
      << directory_.log_tail();
  check(wanted);
}

// Two copies of the program stand for the versions.
TEST_P(Survival, ApplicationsDoNotNoticeUpgrades) {
  const std::string versions[] = {directory_.beside("walfs-next"), directory_.beside("walfs-last")};
  for (const std::string& version : versions) std::filesystem::copy_file(walfs_binary(), version);
  begin();
  const int before = servers();
  const int wanted = deaths_wanted(3);
  int upgrades = 0;
  for (; upgrades < wanted || (!have_worked(wanted) && upgrades < 50 * wanted); ++upgrades) {
    const Output output = run_program({versions[upgrades % 2], "upgrade", directory_.path()});
    ASSERT_EQ(output.status, 0) << output.text << directory_.log_tail();
  }
  EXPECT_EQ(servers(), before + upgrades);
  check(wanted);
}

INSTANTIATE_TEST_SUITE_P(Modes, Survival, testing::ValuesIn(kModes), [](const auto& each) {
  std::string name = std::string(each.param.journal) + "_" + each.param.synchronous;
  return name;
});

}  // namespace
}  // namespace walfs::test
