// What restore can do besides: say what it would do, go on after it was killed, follow.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <nlohmann/json.hpp>

#include "tests/support/crowd.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RestoreOptionsTest : public ::testing::Test {
 protected:
  RestoreOptionsTest() { directory_.mount({"--sync-interval", "50ms"}); }

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(directory_.path(name)).parent_path());
    std::ofstream(directory_.path(name)) << text;
  }
  void commit(const std::string& name, const char* mode, int rows) const {
    CrowdDatabase database(directory_.path(name), {mode, "NORMAL"});
    ASSERT_TRUE(database.run("CREATE TABLE IF NOT EXISTS t(a)")) << database.error();
    for (int i = 0; i < rows; ++i)
      ASSERT_TRUE(database.run("INSERT INTO t VALUES(randomblob(3000))")) << database.error();
  }
  std::string target() const { return directory_.beside("restored/target"); }
  std::vector<std::string> command(std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {walfs_binary(), "restore", directory_.url(), target()});
    return options;
  }
  Output restore(const std::vector<std::string>& options = {}) const {
    return run_program(command(options), Seconds(60));
  }
  // Whether the target is what a restore of now gives.
  bool is_up_to_date() {
    const std::string whole = directory_.restore();
    const std::string differences =
        join_lines(compare_trees(read_tree(whole), read_tree(target())));
    fs::remove_all(whole);
    last_differences_ = differences;
    return differences.empty();
  }
  static std::vector<std::string> names_in(const std::string& path) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename());
    return names;
  }

  ReplicatedDirectory directory_;
  std::string last_differences_;
};

// Whether a program says that within a long time, in the file that its output goes to.
testing::AssertionResult comes_to_say(const std::string& output, const std::string& text) {
  const auto says = [&] { return read_whole_file(output).find(text) != std::string::npos; };
  if (wait_until(says)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << text << " is not in: " << read_whole_file(output);
}

// A program in the background whose output is a file.
class Background {
 public:
  Background(const std::vector<std::string>& words, const std::string& output) : pid_(fork()) {
    if (pid_ != 0) return;
    const int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~Background() { end(SIGKILL); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  int end(int signal) {
    if (pid_ <= 0) return kTimedOut;
    kill(pid_, signal);
    return wait_or_kill(std::exchange(pid_, -1), Seconds(30));
  }
  bool is_running() const { return kill(pid_, 0) == 0 && waitpid(pid_, nullptr, WNOHANG) == 0; }

 private:
  pid_t pid_;
};

TEST_F(RestoreOptionsTest, ADryRunTellsWhatARestoreWouldDoAndDoesNothing) {
  write("files/one", std::string(100000, 'x'));
  commit("app.db", "wal", 10);
  directory_.sync();
  const Output said = restore({"--dry-run", "--json"});
  ASSERT_EQ(said.status, 0) << said.text;
  const json preview = json::parse(said.text, nullptr, false);
  EXPECT_EQ(preview.value("dry_run", false), true);
  EXPECT_GT(preview.value("fetches", 0), 0);
  EXPECT_GT(preview.value("bytes_to_fetch_max", 0), 30000);
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_TRUE(names_in(directory_.beside("restored")).empty());
  const Output restored = restore({"--json"});
  ASSERT_EQ(restored.status, 0) << restored.text;
  const json report = json::parse(restored.text, nullptr, false);
  for (const char* what : {"position", "time", "files", "databases", "bytes", "directory"})
    EXPECT_EQ(preview[what], report[what]) << what;
  const Output over = restore({"--dry-run"});
  EXPECT_EQ(over.status, 2) << over.text;
  EXPECT_NE(over.text.find("is not empty"), std::string::npos) << over.text;
}

TEST_F(RestoreOptionsTest, ADryRunOfSomeFilesFetchesLess) {
  write("large", std::string(3000000, 'x'));
  directory_.sync();
  write("small", "small");  // In another frame.
  directory_.sync();
  const auto bytes = [&](const std::vector<std::string>& options) {
    const Output said = restore(options);
    EXPECT_EQ(said.status, 0) << said.text;
    const size_t at = said.text.find("at most ");
    return at == std::string::npos ? 0 : std::stoul(said.text.substr(at + 8));
  };
  const auto all = bytes({"--dry-run"});
  const auto some = bytes({"--dry-run", "--only", "small"});
  EXPECT_GT(some, 0U);
  EXPECT_LT(some, all);
}

TEST_F(RestoreOptionsTest, ARestoreThatIsKilledGoesOn) {
  for (int i = 0; i < 30; ++i) write("files/" + std::to_string(i), std::string(400000, 'a' + i));
  commit("app.db", "delete", 20);
  directory_.unmount();
  directory_.mount({"--sync-interval", "50ms"});
  directory_.sync();
  size_t went_on = 0;
  for (int i = 0; i < 12; ++i) {
    Background restoring(command(), directory_.beside("output"));
    usleep(static_cast<useconds_t>(i) * 4000);
    if (restoring.end(SIGKILL) == 128 + SIGKILL && fs::exists(target() + ".restoring")) ++went_on;
    fs::remove_all(target());
  }
  EXPECT_GT(went_on, 1U);
  const Output done = restore();
  ASSERT_EQ(done.status, 0) << done.text;
  EXPECT_TRUE(is_up_to_date()) << last_differences_;
  EXPECT_EQ(names_in(directory_.beside("restored")), std::vector<std::string>{"target"});
}

TEST_F(RestoreOptionsTest, ADirectoryFollowsWhatIsCommittedUntilItIsToldToStop) {
  write("files/one", "first");
  commit("app.db", "wal", 3);
  directory_.sync();
  const std::string output = directory_.beside("output");
  Background following(command({"--follow", "--poll-interval", "100ms"}), output);
  ASSERT_TRUE(comes_to_say(output, "follows"));
  fs::create_directory(directory_.path("dir"));
  for (int round = 0; round < 4; ++round) {
    commit("app.db", "wal", 5);
    commit("dir/other.db", round % 2 == 0 ? "truncate" : "persist", 5);
    write("files/" + std::to_string(round), std::string(200000, 'a' + round));
    fs::rename(directory_.path("dir"), directory_.path("moved"));
    fs::rename(directory_.path("moved"), directory_.path("dir"));
    if (round > 0) fs::remove(directory_.path("files/" + std::to_string(round - 1)));
    const std::string position = directory_.sync();
    ASSERT_TRUE(comes_to_say(output, position));
    EXPECT_TRUE(is_up_to_date()) << last_differences_;
  }
  EXPECT_EQ(following.end(SIGTERM), 0);
  EXPECT_NE(read_whole_file(output).find("stopped; "), std::string::npos)
      << read_whole_file(output);
  EXPECT_EQ(names_in(directory_.beside("restored")), std::vector<std::string>{"target"});
}

TEST_F(RestoreOptionsTest, ADirectoryThatFollowsIsRestoredAnewWhenAnotherWriterTakesOver) {
  write("one", "first");
  directory_.sync();
  const std::string output = directory_.beside("output");
  Background following(command({"--follow", "--poll-interval", "100ms"}), output);
  ASSERT_TRUE(comes_to_say(output, "follows"));
  directory_.unmount();
  fs::remove_all(directory_.source() + "/.walfs");
  directory_.mount({"--sync-interval", "50ms", "--take-over"});
  write("two", "of the other writer");
  const std::string position = directory_.sync();
  ASSERT_TRUE(comes_to_say(output, position));
  EXPECT_NE(read_whole_file(output).find("restoring it anew"), std::string::npos);
  EXPECT_TRUE(is_up_to_date()) << last_differences_;
  EXPECT_EQ(following.end(SIGINT), 0);
}

TEST_F(RestoreOptionsTest, ForceReplacesNoDirectoryThatHoldsTheReplica) {
  write("file", "text");
  directory_.unmount();
  const std::string outer = directory_.beside("outer");
  fs::create_directory(outer);
  fs::rename(directory_.beside("replica"), outer + "/replica");
  for (const std::string& over : {outer, outer + "/replica"}) {
    const Output said = run_program(
        {walfs_binary(), "restore", "file://" + outer + "/replica", over, "--force"}, Seconds(60));
    EXPECT_EQ(said.status, 2) << said.text;
    EXPECT_NE(said.text.find("the replica file://" + outer + "/replica lies in"), std::string::npos)
        << said.text;
  }
  EXPECT_TRUE(fs::exists(outer + "/replica/volume.json"));
}

TEST_F(RestoreOptionsTest, ForceReplacesNoDirectoryInWhichSomethingIsMounted) {
  write("file", "text");
  directory_.sync();
  fs::create_directories(target() + "/backups here");
  ASSERT_EQ(mount("none", (target() + "/backups here").c_str(), "tmpfs", 0, nullptr), 0);
  std::ofstream(target() + "/backups here/precious") << "precious";
  const Output said = restore({"--force"});
  const bool is_there = fs::exists(target() + "/backups here/precious");
  EXPECT_EQ(umount2((target() + "/backups here").c_str(), MNT_DETACH), 0);
  EXPECT_EQ(said.status, 2) << said.text;
  EXPECT_NE(said.text.find("backups here is mounted inside"), std::string::npos) << said.text;
  EXPECT_TRUE(is_there);
}

TEST_F(RestoreOptionsTest, FollowingOnlySomethingIsWrongUsage) {
  directory_.sync();
  for (const std::vector<std::string>& other :
       {std::vector<std::string>{"--dry-run"}, {"--at", "1 hour ago"}, {"--only", "x"}}) {
    std::vector<std::string> options = other;
    options.emplace_back("--follow");
    const Output said = restore(options);
    EXPECT_EQ(said.status, 2) << said.text;
    EXPECT_NE(said.text.find("--follow brings the whole directory"), std::string::npos)
        << said.text;
  }
}

}  // namespace
}  // namespace walfs::test
