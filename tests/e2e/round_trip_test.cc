// The whole way by seed: databases and files are worked on through the mount; from time to time
// everything is restored and compared, byte for byte. In between the directory is unmounted and
// changed from outside, and all processes are killed.
//
// The same seeds each time, so that a run says something about a change; a failure prints its seed.
// WALFS_TEST_SEED=N runs that one alone, WALFS_TEST_ROUNDS=N runs more
// seeds, WALFS_TEST_TRACE=1 tells each step on standard error.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <deque>

#include "tests/e2e/round_trip_databases.h"
#include "tests/e2e/round_trip_files.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

constexpr int kRounds = 6;
constexpr uint64_t kFirstSeed = 25;
constexpr int kPhases = 6;
constexpr size_t kTraceKept = 60;

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class RoundTrip {
 public:
  RoundTrip(uint64_t seed, const std::string& url)
      : random_(seed),
        directory_(url, seed % 3 == 0 ? ReplicatedDirectory::Where::kOverItself
                                      : ReplicatedDirectory::Where::kBeside),
        databases_(random_, [this](const std::string& text) { say(text); }),
        files_(random_, [this](const std::string& text) { say(text); }) {
    databases_.set_root(directory_.path());
    files_.set_root(directory_.path());
  }
  ~RoundTrip() {
    close_all();
    if (!::testing::Test::HasFailure()) return;
    std::string text = "the last steps:\n";
    for (const std::string& line : trace_) text += "  " + line + "\n";
    std::fputs((text + directory_.log_tail()).c_str(), stderr);
  }

  void run() {
    // What is there before the first mount is uploaded by another way than what comes later.
    if (below(2) == 0) work_outside();
    mount();
    for (int phase = 0; phase < kPhases && !failed(); ++phase) {
      work(10 + below(60));
      switch (below(5)) {
        case 0:
          unmount_and_change();
          break;
        case 1:
          crash();
          break;
        case 2:
          check_in_transaction();
          break;
        default:
          check("a sync");
      }
    }
    if (failed()) return;
    check("the end");
    unmount_and_change();
  }

 private:
  int below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }
  static bool failed() { return ::testing::Test::HasFailure(); }

  void say(const std::string& text) {
    static const bool aloud = std::getenv("WALFS_TEST_TRACE") != nullptr;
    if (aloud) std::fprintf(stderr, "%s\n", text.c_str());
    trace_.push_back(text);
    if (trace_.size() > kTraceKept) trace_.pop_front();
  }

  void work(int steps) {
    for (int i = 0; i < steps; ++i) {
      if (below(2) == 0) {
        databases_.step();
      } else {
        files_.step();
      }
    }
    expect_no_faults();
  }

  void expect_no_faults() {
    EXPECT_TRUE(databases_.faults().empty()) << join_lines(databases_.faults());
  }

  void mount() {
    say("mount");
    directory_.mount({"--flush-interval", below(2) == 0 ? "20ms" : "100ms", "--sync-interval",
                      below(2) == 0 ? "50ms" : "1s"});
    databases_.set_root(directory_.path());
    files_.set_root(directory_.path());
  }

  void close_all() {
    databases_.close_all();
    files_.close_all();
  }

  void work_outside() {
    say("work in the source, not mounted");
    databases_.set_root(directory_.source());
    files_.set_root(directory_.source());
    work(20 + below(20));
    if (below(2) == 0) databases_.settle();
    close_all();
  }

  void compare(const std::string& when, Tree expected,
               const std::map<std::string, std::string>& before = {}) {
    const std::string restored_path = directory_.restore();
    if (restored_path.empty()) return;
    const Tree restored = read_tree(restored_path);
    for (const auto& [path, content] : before) {
      expected[path].content = content;
      if (restored.contains(path)) expected[path].mtime_ns = restored.at(path).mtime_ns;
    }
    const auto differences = compare_trees(expected, restored);
    EXPECT_TRUE(differences.empty()) << "after " << when << " (expected, then restored):\n"
                                     << join_lines(differences);
    if (std::getenv("WALFS_TEST_KEEP") != nullptr && !differences.empty())
      keep(expected, restored_path);
    std::filesystem::remove_all(restored_path);
  }

  void keep(const Tree& expected, const std::string& restored_path) const {
    const std::string place = std::getenv("WALFS_TEST_KEEP");
    run_program({"cp", "-a", restored_path, place + "/restored"});
    run_program({"cp", "-a", directory_.source(), place + "/source"});
    for (const auto& [path, entry] : expected) {
      if (!S_ISREG(entry.mode)) continue;
      const std::filesystem::path to = place + "/expected/" + path;
      std::filesystem::create_directories(to.parent_path());
      std::ofstream(to, std::ios::binary) << entry.content;
    }
  }

  void check(const std::string& when) {
    say("sync and compare");
    databases_.settle();
    if (directory_.sync().empty()) return;
    compare(when, read_tree(directory_.path()));
    expect_no_faults();
  }

  void check_in_transaction() {
    databases_.settle();
    // Without fsync a commit counts once it was followed by a pause; a sync makes one.
    if (directory_.sync().empty()) return;
    const auto before = databases_.open_transaction();
    say("sync and compare within a transaction");
    if (directory_.sync().empty()) return;
    compare("a sync within a transaction", read_tree(directory_.path()), before);
    databases_.end_transaction();
    expect_no_faults();
  }

  void unmount_and_change() {
    databases_.settle();
    close_all();
    say("unmount");
    directory_.unmount();
    if (failed()) return;
    compare("unmounting", read_tree(directory_.source()));
    if (failed()) return;
    if (below(2) == 0) work_outside();
    mount();
    if (!failed()) check("mounting again");
  }

  void crash() {
    if (below(2) == 0) databases_.open_transaction();
    if (below(2) == 0) directory_.sync();
    say("crash");
    directory_.crash();
    close_all();
    if (below(3) == 0) recover(directory_.source());
    mount();
    if (failed()) return;
    if (below(2) == 0) check_before_recovery();
    recover(directory_.path());
    check("a crash");
  }

  void recover(const std::string& root) {
    say("recover");
    databases_.set_root(root);
    databases_.recover();
    expect_no_faults();
  }

  // The restored directory stands on its own, also if the application never came back.
  void check_before_recovery() {
    say("restore before recovery");
    if (directory_.sync().empty()) return;
    const std::string restored = directory_.restore();
    if (restored.empty()) return;
    databases_.expect_whole(restored);
    expect_no_faults();
    std::filesystem::remove_all(restored);
  }

  Random random_;
  std::deque<std::string> trace_;
  ReplicatedDirectory directory_;
  DatabaseWork databases_;
  FileWork files_;
};

void run_rounds(const std::function<std::string(uint64_t seed)>& url) {
  const uint64_t first = number_from("WALFS_TEST_SEED", kFirstSeed);
  const uint64_t rounds =
      std::getenv("WALFS_TEST_SEED") != nullptr ? 1 : number_from("WALFS_TEST_ROUNDS", kRounds);
  for (uint64_t seed = first; seed < first + rounds; ++seed) {
    SCOPED_TRACE("WALFS_TEST_SEED=" + std::to_string(seed));
    RoundTrip(seed, url(seed)).run();
    if (::testing::Test::HasFailure()) {
      std::fprintf(stderr, "failed with WALFS_TEST_SEED=%lu\n", static_cast<unsigned long>(seed));
      return;
    }
  }
}

TEST(RoundTrip, WhatIsRestoredIsWhatWasThere) {
  run_rounds([](uint64_t) { return std::string(); });
}

TEST(RoundTrip, WhatIsRestoredFromS3IsWhatWasThere) {
  const char* endpoint = std::getenv("WALFS_TEST_S3_ENDPOINT");
  if (endpoint == nullptr) GTEST_SKIP() << "WALFS_TEST_S3_ENDPOINT is not set";
  setenv("AWS_ACCESS_KEY_ID", "testak", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "testsk", 1);
  run_rounds([&](uint64_t seed) {
    return "s3://walfs-test/round-trip-" + std::to_string(seed) + "-" +
           std::to_string(std::random_device{}()) + "?region=us-east-1&endpoint=" + endpoint;
  });
}

// Files that only look like companions, and companions that lost their database, are files.
class LoneCompanion : public ::testing::Test {
 protected:
  void mount() { directory_.mount({"--sync-interval", "50ms"}); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_.path(name)) << text;
  }
  void expect_restored(const std::string& when) {
    SCOPED_TRACE(when);
    ASSERT_FALSE(directory_.sync().empty());
    const std::string restored = directory_.restore();
    ASSERT_FALSE(restored.empty());
    const auto differences = compare_trees(read_tree(directory_.path()), read_tree(restored));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
  }
  void mount_again() {
    directory_.unmount();
    mount();
  }
  ReplicatedDirectory directory_;
};

TEST_F(LoneCompanion, IsKeptBesideATextFile) {
  mount();
  write("notes-journal", "a diary");
  expect_restored("alone");
  write("notes", "some notes");
  expect_restored("beside a text");
  std::filesystem::remove(directory_.path("notes"));
  expect_restored("alone again");
  write("notes", "other notes");
  write("notes-wal", "a wall");
  expect_restored("beside another text");
  mount_again();
  expect_restored("after mounting again");
}

TEST_F(LoneCompanion, IsKeptWhenTheEmptyFileBesideItBecomesAText) {
  std::ofstream(directory_.source() + "/notes-journal") << "a diary";
  std::ofstream(directory_.source() + "/notes") << "";
  mount();
  write("notes", "some notes");
  expect_restored("beside a text");
}

TEST_F(LoneCompanion, IsKeptAfterItsDatabaseWasRemoved) {
  mount();
  sqlite3* database = nullptr;
  sqlite3_open(directory_.path("x.db").c_str(), &database);
  sqlite3_exec(database, "PRAGMA journal_mode=persist; CREATE TABLE t(v); INSERT INTO t VALUES(1)",
               nullptr, nullptr, nullptr);
  sqlite3_close(database);
  ASSERT_TRUE(std::filesystem::exists(directory_.path("x.db-journal")));
  expect_restored("with its database");
  std::filesystem::remove(directory_.path("x.db"));
  expect_restored("without it");
  mount_again();
  expect_restored("after mounting again");
}

}  // namespace
}  // namespace walfs::test
