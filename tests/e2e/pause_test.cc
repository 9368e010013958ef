// Replication that is paused, by the spool's limit or by hand: the application notices nothing,
// spool and memory stay bounded, and afterwards the replica is complete without anybody's help
// (I7).
#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "tests/support/crowd.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kLimit = uint64_t{1} << 20;
// What arrives before the server looks and hands over comes on top, on a busy machine, too.
constexpr uint64_t kSpoolMax = 4 * kLimit;
constexpr long kMemoryMaxKib = 36L << 10;
const std::vector<std::string> kSmallSpool = {"--spool-limit", "1MiB", "--sync-interval", "50ms"};

const JournalMode kModes[] = {{"wal", "NORMAL"}, {"delete", "FULL"}};

bool is_paused(const ReplicatedDirectory& directory) {
  return directory.status().value("paused", json()).is_object();
}

size_t log_lines(const ReplicatedDirectory& directory, const std::string& part) {
  std::ifstream log(directory.beside("walfs.log"));
  size_t found = 0;
  for (std::string line; std::getline(log, line);) found += line.find(part) != std::string::npos;
  return found;
}

uint64_t spool_size(const ReplicatedDirectory& directory) {
  uint64_t size = 0;
  std::error_code gone;  // While we look.
  for (const auto& file : fs::directory_iterator(directory.source() + "/.walfs/spool", gone)) {
    const auto bytes = fs::file_size(file, gone);
    if (!gone) size += bytes;
  }
  return size;
}

// Now; 0 if the process has just ended.
long memory_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::strtol(line.c_str() + 8, nullptr, 10);
  return 0;
}

Output run_walfs(std::vector<std::string> words) {
  words.insert(words.begin(), walfs_binary());
  return run_program(words, Seconds(60));
}

// Databases and files that change in every way; each step must succeed.
class Application {
 public:
  explicit Application(const ReplicatedDirectory& directory) : directory_(directory) {
    for (const JournalMode& mode : kModes) {
      const std::string name = std::string(mode.journal) + ".db";
      databases_.push_back(std::make_unique<CrowdDatabase>(directory.path(name), mode));
      EXPECT_TRUE(databases_.back()->run("CREATE TABLE IF NOT EXISTS t(a)"));
    }
  }

  void step() {
    ++steps_;
    for (const auto& database : databases_)
      EXPECT_TRUE(database->run("INSERT INTO t VALUES(randomblob(20000))")) << database->error();
    const std::string number = std::to_string(steps_ % 20);
    write("file" + number, 30000);
    fs::create_directories(directory_.path("directory" + number));
    if (steps_ % 3 == 0) {
      fs::rename(directory_.path("file" + number), directory_.path("directory" + number + "/in"));
    } else if (steps_ % 3 == 1) {
      EXPECT_TRUE(fs::remove(directory_.path("file" + number)));
      write("file" + number, 500);
    }
    if (steps_ % 7 == 0) {
      EXPECT_TRUE(databases_[0]->run("PRAGMA wal_checkpoint(TRUNCATE)"));
    }
    // A log of its own that comes and goes.
    CrowdDatabase passing(directory_.path("passing.db"), kModes[0]);
    EXPECT_TRUE(passing.run("CREATE TABLE IF NOT EXISTS t(a)")) << passing.error();
    EXPECT_TRUE(passing.run("INSERT INTO t VALUES(randomblob(5000))")) << passing.error();
  }
  uint64_t written() const { return written_ + uint64_t{steps_} * 45000; }

 private:
  void write(const std::string& name, size_t size) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    std::ofstream file(directory_.path(name), std::ios::binary);
    file << text;
    EXPECT_TRUE(file.flush().good()) << name;
    written_ += size;
  }

  const ReplicatedDirectory& directory_;
  std::vector<std::unique_ptr<CrowdDatabase>> databases_;
  std::minstd_rand random_{1};
  uint64_t written_ = 0;
  unsigned steps_ = 0;
};

class Paused : public testing::Test {
 protected:
  void begin(const std::vector<std::string>& options) {
    directory_.mount(options);
    application_ = std::make_unique<Application>(directory_);
    application_->step();
    directory_.sync();
  }
  // Nothing of the replica can be read, and something that is no directory stands where its log
  // was.
  void begin_outage() {
    fs::rename(directory_.beside("replica/volume.json"), directory_.beside("volume.json"));
    fs::rename(directory_.beside("replica/log"), directory_.beside("away"));
    std::ofstream(directory_.beside("replica/log")) << "no directory";
  }
  void end_outage() {
    fs::remove(directory_.beside("replica/log"));
    fs::rename(directory_.beside("away"), directory_.beside("replica/log"));
    fs::rename(directory_.beside("volume.json"), directory_.beside("replica/volume.json"));
  }
  void expect_bounds() {
    const json status = directory_.status();
    EXPECT_LE(status.value("spool_bytes", kSpoolMax + 1), kSpoolMax) << status.dump();
    EXPECT_LE(spool_size(directory_), kSpoolMax);
    EXPECT_LE(memory_kib(status.value("server_pid", 0)), kMemoryMaxKib);
  }
  void work_through(uint64_t bytes) {
    const uint64_t end = application_->written() + bytes;
    while (application_->written() < end && !HasFatalFailure()) {
      application_->step();
      expect_bounds();
    }
  }
  void expect_all_is_there() {
    application_.reset();
    EXPECT_NE(directory_.sync(), "");
    EXPECT_FALSE(is_paused(directory_));
    const std::string restored = directory_.restore();
    ASSERT_NE(restored, "");
    const auto differences = compare_trees(read_tree(directory_.source()), read_tree(restored));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
  }
  void expect_one_pause() {
    EXPECT_EQ(log_lines(directory_, "replication pauses"), 1U) << directory_.log_tail();
    EXPECT_EQ(log_lines(directory_, "replication goes on"), 1U) << directory_.log_tail();
  }
  void pause() {
    const Output output = run_walfs({"pause", directory_.path()});
    ASSERT_EQ(output.status, 0) << output.text << directory_.log_tail();
    ASSERT_TRUE(is_paused(directory_));
  }
  void resume() {
    const Output output = run_walfs({"resume", directory_.path()});
    ASSERT_EQ(output.status, 0) << output.text << directory_.log_tail();
  }

  ReplicatedDirectory directory_{{}, ReplicatedDirectory::Where::kOverItself};
  std::unique_ptr<Application> application_;
};

class PauseOnLimit : public Paused {};

TEST_F(PauseOnLimit, AnOutageOfAnyLengthIsBoundedAndCaughtUpWith) {
  begin(kSmallSpool);
  begin_outage();
  work_through(40 * kLimit);  // More than the bound of the memory.
  const json status = directory_.status();
  EXPECT_EQ(status["paused"].value("reasons", json()), json({"spool-full"})) << status.dump();
  const Output shown = run_walfs({"status", directory_.path()});
  EXPECT_NE(shown.text.find("PAUSED"), std::string::npos) << shown.text;
  EXPECT_NE(shown.text.find("at most 1024 KiB"), std::string::npos) << shown.text;
  const Output sync = run_walfs({"sync", directory_.path(), "--timeout", "200ms"});
  EXPECT_EQ(sync.status, 1);
  EXPECT_NE(sync.text.find("the spool is full"), std::string::npos) << sync.text;
  end_outage();
  expect_all_is_there();
  expect_one_pause();
  directory_.unmount();
}

TEST_F(PauseOnLimit, ASyncThatWaitsIsAnsweredByTheServerThatGoesOn) {
  begin(kSmallSpool);
  begin_outage();
  work_through(3 * kLimit);
  application_.reset();
  ASSERT_TRUE(is_paused(directory_));
  std::thread waiting([&] { EXPECT_NE(directory_.sync(), ""); });
  usleep(200000);
  end_outage();
  waiting.join();
  expect_all_is_there();
  directory_.unmount();
}

TEST_F(PauseOnLimit, ServersThatAreKilledMeanwhileForgetNothing) {
  begin(kSmallSpool);
  begin_outage();
  for (int death = 0; death < 5 && !HasFatalFailure(); ++death) {
    // Without a look at the bounds: one that compares does not know of the outage at once.
    for (int i = 0; i < 10; ++i) application_->step();
    directory_.kill_server();
  }
  EXPECT_TRUE(wait_until([&] { return is_paused(directory_); }));
  end_outage();
  expect_all_is_there();
  directory_.unmount();
}

// There is nothing in the spool then that the one which begins again can use.
TEST_F(PauseOnLimit, AFirstUploadBeginsAgainWhenTheStoreAnswers) {
  std::ofstream(directory_.source() + "/large") << std::string(8 << 20, 'x');
  fs::create_directories(directory_.beside("replica"));
  for (const char* name : {"replica/chunks", "replica/log"})
    std::ofstream(directory_.beside(name)) << "no directory";
  directory_.mount(kSmallSpool);
  fs::rename(directory_.beside("replica/volume.json"), directory_.beside("away"));
  application_ = std::make_unique<Application>(directory_);
  EXPECT_FALSE(directory_.status()["first_upload"].value("done", true));
  work_through(3 * kLimit);
  EXPECT_TRUE(is_paused(directory_));
  for (const char* name : {"replica/chunks", "replica/log"}) fs::remove(directory_.beside(name));
  fs::rename(directory_.beside("away"), directory_.beside("replica/volume.json"));
  EXPECT_TRUE(wait_until([&] { return !is_paused(directory_); }, Seconds(60)))
      << directory_.log_tail();
  expect_all_is_there();
  expect_one_pause();
  directory_.unmount();
}

TEST_F(PauseOnLimit, AnUnmountSaysWhatIsMissingAndTheNextMountFindsIt) {
  begin(kSmallSpool);
  begin_outage();
  work_through(3 * kLimit);
  application_.reset();
  ASSERT_TRUE(is_paused(directory_));
  const Output refused = run_walfs({"unmount", directory_.path(), "--timeout", "300ms"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.text.find("is not in the store"), std::string::npos) << refused.text;
  const Output output = run_walfs({"unmount", directory_.path(), "--timeout", "300ms", "--force"});
  EXPECT_NE(output.text.find("the next mount finds it"), std::string::npos) << output.text;
  ASSERT_TRUE(wait_until([&] { return !mount_at(directory_.path()); }));
  end_outage();
  ASSERT_TRUE(
      wait_until([&] { return directory_.try_mount(kSmallSpool).status == 0; }, Seconds(60)));
  expect_all_is_there();
  directory_.unmount();
}

class PauseByHand : public Paused {};

TEST_F(PauseByHand, ShipsTheDifferenceAfterwards) {
  begin({"--sync-interval", "50ms"});
  pause();
  pause();  // Once more says the same.
  const std::string before = directory_.status().value("position", "");
  for (int i = 0; i < 20; ++i) application_->step();
  EXPECT_EQ(directory_.status().value("position", ""), before);
  const Output sync = run_walfs({"sync", directory_.path()});
  EXPECT_EQ(sync.status, 1);
  EXPECT_NE(sync.text.find("walfs resume"), std::string::npos) << sync.text;
  resume();
  resume();
  expect_all_is_there();
  expect_one_pause();
  directory_.unmount();
}

TEST_F(PauseByHand, OutlivesServersAndAnUpgrade) {
  begin({"--sync-interval", "50ms"});
  pause();
  application_->step();
  directory_.kill_server();
  application_->step();
  const Output upgraded = run_walfs({"upgrade", directory_.path()});
  ASSERT_EQ(upgraded.status, 0) << upgraded.text << directory_.log_tail();
  application_->step();
  EXPECT_TRUE(is_paused(directory_));
  resume();
  expect_all_is_there();
  expect_one_pause();
  directory_.unmount();
}

TEST_F(PauseByHand, StillUploadsWhatTheSpoolHas) {
  begin({"--sync-interval", "50ms"});
  begin_outage();
  application_->step();
  ASSERT_TRUE(wait_until([&] { return directory_.status()["backlog"].value("segments", 0) > 0; }));
  pause();
  end_outage();
  EXPECT_TRUE(wait_until([&] { return directory_.status()["backlog"].value("segments", 1) == 0; },
                         Seconds(60)));
  EXPECT_TRUE(is_paused(directory_));
  resume();
  expect_all_is_there();
  directory_.unmount();
}

TEST_F(PauseByHand, EndsWithTheMountAndTheNextOneComparesEverything) {
  begin({"--sync-interval", "50ms"});
  pause();
  for (int i = 0; i < 5; ++i) application_->step();
  application_.reset();
  EXPECT_EQ(run_walfs({"unmount", directory_.path()}).status, 1);
  const Output output = run_walfs({"unmount", directory_.path(), "--force"});
  EXPECT_NE(output.text.find("the next mount finds it"), std::string::npos) << output.text;
  ASSERT_TRUE(wait_until([&] { return !mount_at(directory_.path()); }));
  ASSERT_TRUE(wait_until([&] { return directory_.try_mount().status == 0; }, Seconds(60)));
  expect_all_is_there();
  directory_.unmount();
}

// Pauses by hand, by the limit, and deaths of whatever server there is, one after the other.
TEST_F(PauseByHand, IsNotNoticedByApplicationsUnderLoad) {
  directory_.mount(kSmallSpool);
  for (const JournalMode& mode : kModes) {
    CrowdDatabase database(directory_.path(std::string(mode.journal) + ".db"), mode);
    ASSERT_TRUE(database.run("CREATE TABLE t(who INTEGER, text TEXT)")) << database.error();
  }
  Crowd crowd(directory_.path(), directory_.beside("outside"));
  for (const JournalMode& mode : kModes) {
    crowd.add_writer(std::string(mode.journal) + ".db", mode);
    crowd.add_reader(std::string(mode.journal) + ".db", mode);
  }
  crowd.add_name_changer();
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  for (int round = 0; round < 8 && !HasFatalFailure(); ++round) {
    usleep(random() % 100000);
    pause();
    usleep(random() % 100000);
    if (round % 3 == 0) directory_.kill_server();
    const Output output = run_walfs({"resume", directory_.path()});
    EXPECT_TRUE(output.status == 0 || output.text.find("by itself") != std::string::npos)
        << output.text;
  }
  EXPECT_EQ(crowd.stop(), "") << directory_.log_tail();
  // Those who were killed left a log, which moves into the database now.
  for (const JournalMode& mode : kModes)
    CrowdDatabase(directory_.path(std::string(mode.journal) + ".db"), mode)
        .ask("SELECT count(*) FROM t");
  expect_all_is_there();
  for (const JournalMode& mode : kModes) {
    const std::string name = std::string(mode.journal) + ".db";
    CrowdDatabase database(directory_.path(name), mode);
    EXPECT_EQ(database.text("PRAGMA integrity_check"), "ok") << name;
    for (const int64_t row : crowd.acknowledged(name))
      ASSERT_EQ(database.ask("SELECT count(*) FROM t WHERE rowid=" + std::to_string(row)), 1)
          << "row " << row << " of " << name;
  }
}

// Commits that return only when they are in the store.
class PauseWithDurability : public Paused {
 protected:
  int64_t rows_in_store() {
    const std::string restored = directory_.restore();
    return CrowdDatabase(restored + "/x.db", kModes[0]).ask("SELECT count(*) FROM t");
  }
};

TEST_F(PauseWithDurability, ACommitWaitsUntilItIsInTheStore) {
  for (const JournalMode& mode : kModes) {
    if (mount_at(directory_.path())) directory_.unmount();
    fs::remove(directory_.source() + "/x.db");
    directory_.mount({"--durability", "sync"});
    CrowdDatabase database(directory_.path("x.db"), mode);
    ASSERT_TRUE(database.run("CREATE TABLE t(a); INSERT INTO t VALUES(1)")) << database.error();
    pause();
    std::atomic<bool> returned{false};
    std::thread writer([&] {
      EXPECT_TRUE(database.run("INSERT INTO t VALUES(2)")) << database.error();
      returned = true;
    });
    EXPECT_TRUE(wait_until([&] { return directory_.status().value("commits_waiting", 0) == 1; }));
    directory_.kill_server();
    EXPECT_TRUE(wait_until([&] { return directory_.status().value("commits_waiting", 0) == 1; }));
    EXPECT_FALSE(returned);
    resume();
    writer.join();
    EXPECT_EQ(rows_in_store(), 2) << mode.journal;
  }
  directory_.unmount();
}

// What is not a database does not wait, and fills the spool.
TEST_F(PauseWithDurability, AFullSpoolHoldsCommitsUntilTheyAreInTheStore) {
  directory_.mount({"--durability", "sync", "--spool-limit", "1MiB", "--sync-interval", "50ms"});
  CrowdDatabase database(directory_.path("x.db"), kModes[0]);
  ASSERT_TRUE(database.run("CREATE TABLE t(a); INSERT INTO t VALUES(1)")) << database.error();
  begin_outage();
  std::atomic<bool> returned{false};
  std::thread writer([&] {
    EXPECT_TRUE(database.run("INSERT INTO t VALUES(2)")) << database.error();
    returned = true;
  });
  std::minstd_rand random(1);
  std::string noise(100'000, '\0');
  EXPECT_TRUE(wait_until([&] {
    for (char& c : noise) c = static_cast<char>(random());
    std::ofstream(directory_.path("file" + std::to_string(random()))) << noise;
    expect_bounds();
    return is_paused(directory_);
  }));
  EXPECT_FALSE(returned);
  end_outage();
  writer.join();
  EXPECT_EQ(rows_in_store(), 2);
}

TEST_F(PauseWithDurability, ThePolicyCountsAsInAnOutage) {
  directory_.mount({"--durability", "sync", "--sync-policy", "degrade", "--sync-timeout", "200ms"});
  auto database = std::make_unique<CrowdDatabase>(directory_.path("x.db"), kModes[0]);
  ASSERT_TRUE(database->run("CREATE TABLE t(a); INSERT INTO t VALUES(1)")) << database->error();
  pause();
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(database->run("INSERT INTO t VALUES(2)")) << database->error();
  database.reset();
  EXPECT_TRUE(directory_.status().value("degraded", false));
  resume();
  EXPECT_NE(directory_.sync(), "");
  EXPECT_EQ(rows_in_store(), 6);
  directory_.unmount();
}

}  // namespace
}  // namespace walfs::test
