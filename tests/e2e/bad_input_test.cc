// What goes wrong outside: wrong arguments, a store that is away, damaged or hostile objects, full
// disks. Each command ends with its exit code and one clear sentence, and nothing is damaged.
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>

#include <algorithm>

#include "replicator/keys.h"
#include "replicator/snapshot.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;

// Runs walfs and returns what it said on standard error.
Output run_walfs(const std::vector<std::string>& words, Seconds limit = Seconds(60)) {
  std::string command = walfs_binary();
  for (const std::string& word : words) command += " '" + word + "'";
  return run_program({"sh", "-c", command + " 2>&1 >/dev/null"}, limit);
}

void expect_one_sentence(const Output& output, int status) {
  EXPECT_EQ(output.status, status) << output.text;
  EXPECT_TRUE(output.text.starts_with("walfs: ")) << output.text;
  EXPECT_EQ(std::count(output.text.begin(), output.text.end(), '\n'), 1) << output.text;
}

void expect_said(const Output& output, const std::string& what) {
  EXPECT_NE(output.text.find(what), std::string::npos)
      << "\"" << what << "\" is missing in: " << output.text;
}

// One replica, made once: a database, a large file, a directory, in a first upload and a log.
class BadInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<ReplicatedDirectory>();
    std::ofstream(directory_->source() + "/large") << random_text(300000);
    std::ofstream(directory_->source() + "/small") << "before the first mount";
    directory_->mount({"--sync-interval", "50ms"});
    directory_->sync();
    sqlite3* database = nullptr;
    sqlite3_open(directory_->path("x.db").c_str(), &database);
    sqlite3_exec(database,
                 "CREATE TABLE t(v); INSERT INTO t VALUES(randomblob(50000));"
                 "INSERT INTO t VALUES(randomblob(50000))",
                 nullptr, nullptr, nullptr);
    sqlite3_close(database);
    fs::create_directory(directory_->path("below"));
    std::ofstream(directory_->path("below/file")) << random_text(100000);
    directory_->unmount();
    expected_ = read_tree(directory_->source());
  }
  static void TearDownTestSuite() {
    directory_.reset();
    expected_.clear();
  }

  static std::string random_text(size_t size) {
    std::mt19937 random(7);
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random());
    return text;
  }

  void SetUp() override {
    fs::copy(directory_->beside("replica"), replica(), fs::copy_options::recursive);
  }
  std::string replica() const { return place_.path() + "/replica"; }
  std::string url() const { return "file://" + replica(); }
  std::string target() const { return place_.path() + "/target"; }

  // Keys of the replica's objects that begin so.
  std::vector<std::string> keys(const std::string& prefix) const {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(replica())) {
      const std::string key = fs::relative(entry.path(), replica()).string();
      if (entry.is_regular_file() && key.starts_with(prefix)) found.push_back(key);
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  void overwrite(const std::string& key, const std::string& content) const {
    std::ofstream(replica() + "/" + key, std::ios::binary | std::ios::trunc) << content;
  }

  void expect_target_untouched() const {
    EXPECT_FALSE(fs::exists(target()));
    for (const auto& entry : fs::directory_iterator(place_.path()))
      EXPECT_EQ(entry.path().filename(), "replica") << "left behind: " << entry.path();
  }

  // The restore fails, names the object and leaves nothing behind.
  void expect_refused(const std::string& key) {
    const Output output = run_walfs({"restore", url(), target()});
    expect_one_sentence(output, 1);
    expect_said(output, key);
    expect_target_untouched();
  }

  // Or it restores what is right although the object is damaged.
  void expect_refused_or_right(const std::string& key) {
    const Output output = run_walfs({"restore", url(), target()});
    if (output.status != 0) {
      EXPECT_EQ(output.status, 1) << output.text;
      expect_said(output, key);
      expect_target_untouched();
      return;
    }
    const auto differences = compare_trees(expected_, read_tree(target()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
    fs::remove_all(target());
  }

  // Damages each object under the prefix in several ways and hands it to `check`.
  void damage_each(const std::string& prefix,
                   const std::function<void(const std::string& key)>& check) {
    const auto all = keys(prefix);
    ASSERT_FALSE(all.empty());
    for (const std::string& key : all) {
      const std::string whole = read_whole_file(replica() + "/" + key);
      for (const size_t size : {whole.size() / 2, whole.size() - 1, size_t{0}}) {
        SCOPED_TRACE(key + " cut to " + std::to_string(size));
        overwrite(key, whole.substr(0, size));
        check(key);
      }
      for (size_t part = 0; part <= 12; ++part) {
        const size_t at = std::min(whole.size() - 1, whole.size() * part / 12);
        SCOPED_TRACE(key + " flipped at " + std::to_string(at) + " of " +
                     std::to_string(whole.size()));
        std::string flipped = whole;
        flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
        overwrite(key, flipped);
        check(key);
      }
      overwrite(key, whole);
      if (HasFailure()) return;
    }
  }

  void expect_bad_name_refused(const std::string& name) {
    SCOPED_TRACE("name " + name);
    const std::string key = keys("snapshots/").back();
    const std::string whole = read_whole_file(replica() + "/" + key);
    auto snapshot = decode_snapshot(key, as_bytes(whole));
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    ASSERT_FALSE(snapshot->entries.empty());
    snapshot->entries.back().name = name;
    const Bytes object = encode_snapshot(*snapshot);
    overwrite(key, std::string(as_text(object)));
    expect_refused(key);
    overwrite(key, whole);
  }

  static std::unique_ptr<ReplicatedDirectory> directory_;
  static Tree expected_;
  TemporaryDirectory place_;
};
std::unique_ptr<ReplicatedDirectory> BadInput::directory_;
Tree BadInput::expected_;

TEST_F(BadInput, TheReplicaItselfIsGood) {
  ASSERT_EQ(run_walfs({"restore", url(), target()}).status, 0);
  const auto differences = compare_trees(expected_, read_tree(target()));
  EXPECT_TRUE(differences.empty()) << join_lines(differences);
}

TEST_F(BadInput, ADirectoryThatIsNotThereHasNothingToRestore) {
  for (const char* command : {"restore", "history", "verify"}) {
    std::vector<std::string> words = {command, "file:///nonexistent/replica"};
    if (words[0] == "restore") words.push_back(target());
    const Output output = run_walfs(words);
    expect_one_sentence(output, 3);
    expect_said(output, "/nonexistent/replica");
  }
  expect_target_untouched();
}

TEST_F(BadInput, ADirectoryThatIsNoReplicaHasNothingToRestore) {
  fs::create_directory(place_.path() + "/empty");
  const Output output = run_walfs({"restore", "file://" + place_.path() + "/empty", target()});
  expect_one_sentence(output, 3);
}

TEST_F(BadInput, UrlsWithTyposAreWrongUsage) {
  for (const char* wrong : {"fil:///x", "file:/x", "file://x", "s3:/b/x", "s3://", "s3://B_AD!/x",
                            "/tmp/x", "", "s3://bucket/x?region", "s3://bucket/x?regio=a",
                            "s3://bucket/x?endpoint=nohost", "s3://key:secret@bucket/x"}) {
    SCOPED_TRACE(wrong);
    expect_one_sentence(run_walfs({"restore", wrong, target()}), 2);
    expect_one_sentence(run_walfs({"history", wrong}), 2);
    expect_one_sentence(run_walfs({"mount", directory_->source(), "--replica", wrong}), 2);
  }
  expect_target_untouched();
}

TEST_F(BadInput, OptionsOutOfTheirLimitsAreWrongUsageAndTheLimitsAreTold) {
  const std::pair<std::vector<std::string>, const char*> wrong[] = {
      {{"--snapshot-interval", "5s"}, "5s is too short; 1m at least"},
      {{"--sync-interval", "2h"}, "2h is too long; 1h at most"},
      {{"--flush-interval", "0.5x"}, "\"0.5x\" is no duration"},
      {{"--spool-limit", "3KiB"}, "3KiB is too small; 64 KiB at least"},
      {{"--spool-limit", "lots"}, "\"lots\" is no size"}};
  for (const auto& [option, told] : wrong) {
    std::vector<std::string> words = {"mount", directory_->source(), "--replica",
                                      "file:///nowhere"};
    words.insert(words.end(), option.begin(), option.end());
    const Output output = run_walfs(words);
    EXPECT_EQ(output.status, 2) << output.text;
    expect_said(output, told);
  }
}

TEST_F(BadInput, APointThatIsNoPointIsWrongUsage) {
  expect_one_sentence(run_walfs({"restore", url(), target(), "--at", "yesterday"}), 2);
  expect_one_sentence(run_walfs({"restore", url(), target(), "--at", "00ff"}), 2);
  expect_target_untouched();
}

TEST_F(BadInput, APositionThatNeverWasIsNotThere) {
  const Output output = run_walfs({"restore", url(), target(), "--at", "0000010000ffffff"});
  expect_one_sentence(output, 3);
  expect_target_untouched();
}

TEST_F(BadInput, AnUnreachableEndpointIsNamed) {
  setenv("AWS_ACCESS_KEY_ID", "testak", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "testsk", 1);
  const Output output = run_walfs(
      {"restore", "s3://bucket/x?region=us-east-1&endpoint=http://127.0.0.1:1", target()});
  expect_one_sentence(output, 1);
  expect_said(output, "127.0.0.1:1");
  expect_target_untouched();
}

TEST_F(BadInput, MissingBucketsAndWrongKeysAreNamed) {
  const char* endpoint = std::getenv("WALFS_TEST_S3_ENDPOINT");
  if (endpoint == nullptr) GTEST_SKIP() << "WALFS_TEST_S3_ENDPOINT is not set";
  setenv("AWS_ACCESS_KEY_ID", "testak", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "testsk", 1);
  const std::string options = std::string("?region=us-east-1&endpoint=") + endpoint;
  Output output = run_walfs({"restore", "s3://no-such-bucket-here/x" + options, target()});
  expect_one_sentence(output, 3);
  expect_said(output, "no-such-bucket-here");
  setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
  output = run_walfs({"restore", "s3://walfs-test/x" + options, target()});
  setenv("AWS_SECRET_ACCESS_KEY", "testsk", 1);
  expect_one_sentence(output, 1);
  expect_target_untouched();
}

TEST_F(BadInput, DamagedSegmentsAreNamed) {
  damage_each("log/", [this](const std::string& key) { expect_refused(key); });
}

TEST_F(BadInput, DamagedSnapshotsAreNamed) {
  damage_each("snapshots/", [this](const std::string& key) { expect_refused(key); });
}

TEST_F(BadInput, DamagedChunksAreNamed) {
  damage_each("chunks/", [this](const std::string& key) { expect_refused(key); });
}

TEST_F(BadInput, DamagedEpochsNeverRestoreAnythingWrong) {
  damage_each("epochs/", [this](const std::string& key) { expect_refused_or_right(key); });
}

TEST_F(BadInput, ADamagedVolumeNeverRestoresAnythingWrong) {
  damage_each("volume.json", [this](const std::string& key) { expect_refused_or_right(key); });
}

TEST_F(BadInput, VerifyNamesEveryDamagedObject) {
  const std::string segment = keys("log/").back();
  const std::string chunk = keys("chunks/").front();
  for (const std::string& key : {segment, chunk}) {
    std::string content = read_whole_file(replica() + "/" + key);
    content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
    overwrite(key, content);
  }
  const Output output = run_program({walfs_binary(), "verify", url()});
  EXPECT_EQ(output.status, 1) << output.text;
  expect_said(output, segment);
  expect_said(output, chunk);
}

TEST_F(BadInput, AMissingObjectIsNamed) {
  for (const char* kind : {"chunks/", "log/"}) {
    const std::string key = keys(kind).front();
    const std::string whole = read_whole_file(replica() + "/" + key);
    fs::remove(replica() + "/" + key);
    if (std::string(kind) == "chunks/") {
      const Output output = run_walfs({"restore", url(), target()});
      EXPECT_NE(output.status, 0);
      expect_said(output, key);
      expect_target_untouched();
    } else {
      // A gap in the log: what lies behind it is not restored as if nothing were missing.
      const Output output = run_program({walfs_binary(), "restore", url(), target()});
      if (output.status == 0) {
        EXPECT_FALSE(fs::exists(target() + "/below/file"));
        fs::remove_all(target());
      }
    }
    overwrite(key, whole);
  }
}

TEST_F(BadInput, NamesThatLeadOutOfTheDirectoryAreRefused) {
  for (const char* name : {"../../etc/passwd", "..", ".", "a/b", "/etc/passwd", ""})
    expect_bad_name_refused(name);
  expect_bad_name_refused(std::string("a\0b", 3));
  expect_bad_name_refused(std::string(256, 'x'));
}

TEST_F(BadInput, ExportsSayWhatIsWrong) {
  const auto refuse = [&](std::vector<std::string> words, int status, const std::string& what) {
    SCOPED_TRACE(what);
    words.insert(words.begin(), "export");
    const Output output = run_walfs(words);
    expect_one_sentence(output, status);
    expect_said(output, what);
    expect_target_untouched();
  };
  const std::string format = "--format";
  const std::string known = "litestream";
  refuse({url(), target(), format, "sqlite"}, 2, "there is no format \"sqlite\"");
  refuse({"fil:///x", target(), format, known}, 2, "\"fil\" replicas are not known");
  refuse({"file:///nonexistent/replica", target(), format, known}, 3, "/nonexistent/replica");
  refuse({url(), place_.path() + "/missing/target", format, known}, 2, "missing does not exist");
  refuse({url(), target(), format, known, "--at", "yesterday"}, 2, "\"yesterday\"");
  refuse({url(), target(), format, known, "--at", "0000010000ffffff"}, 3, "0000010000ffffff");
  refuse({url(), target(), format, known, "--at", "1 week ago"}, 3, "old");
  refuse({url(), target(), format, known, "--only", "large"}, 3, "--only names no database");
  EXPECT_EQ(run_walfs({"export", url(), target()}).status, 2);
  EXPECT_EQ(run_walfs({"export", url(), format, known}).status, 2);
  expect_target_untouched();
}

TEST_F(BadInput, ExportsNeedAReplicaOfWalfsAndANewDirectory) {
  ASSERT_EQ(run_walfs({"export", url(), target(), "--format", "litestream"}).status, 0);
  const std::string again = place_.path() + "/again";
  Output output =
      run_walfs({"export", "file://" + target() + "/x.db", again, "--format", "litestream"});
  expect_one_sentence(output, 2);
  expect_said(output, "is one of Litestream already");
  EXPECT_FALSE(fs::exists(again));
  output = run_walfs({"export", url(), target(), "--format", "litestream"});
  expect_one_sentence(output, 2);
  expect_said(output, "is not empty; export to a new directory");
  EXPECT_TRUE(fs::exists(target() + "/x.db/ltx"));
}

TEST_F(BadInput, ADamagedObjectIsNotExported) {
  for (const std::string& segment : keys("log/")) {
    const std::string whole = read_whole_file(replica() + "/" + segment);
    overwrite(segment, whole.substr(0, whole.size() / 2));
  }
  const Output output = run_walfs({"export", url(), target(), "--format", "litestream"});
  expect_one_sentence(output, 1);
  expect_said(output, "log/");
  expect_target_untouched();
}

TEST_F(BadInput, AFullDiskLeavesNothingBehind) {
  const std::string disk = place_.path() + "/disk";
  fs::create_directory(disk);
  ASSERT_EQ(::mount("none", disk.c_str(), "tmpfs", 0, "size=256k"), 0);
  const Output output = run_walfs({"restore", url(), disk + "/target"});
  const bool left = !fs::is_empty(disk);
  umount2(disk.c_str(), MNT_DETACH);
  expect_one_sentence(output, 1);
  expect_said(output, "No space left");
  EXPECT_FALSE(left);
}

TEST_F(BadInput, ATargetThatIsNotEmptyNeedsForce) {
  fs::create_directory(target());
  std::ofstream(target() + "/old") << "old";
  const Output output = run_walfs({"restore", url(), target()});
  expect_one_sentence(output, 2);
  expect_said(output, "--force");
  EXPECT_EQ(read_whole_file(target() + "/old"), "old");
  EXPECT_FALSE(fs::exists(target() + "/large"));
}

TEST_F(BadInput, ForceKeepsTheOldContentUntilTheNewIsComplete) {
  fs::create_directory(target());
  std::ofstream(target() + "/old") << "old";
  const std::string key = keys("chunks/").front();
  const std::string whole = read_whole_file(replica() + "/" + key);
  overwrite(key, whole.substr(0, whole.size() / 2));
  expect_one_sentence(run_walfs({"restore", url(), target(), "--force"}), 1);
  EXPECT_EQ(read_whole_file(target() + "/old"), "old");
  overwrite(key, whole);
  EXPECT_EQ(run_walfs({"restore", url(), target(), "--force"}).status, 0);
  EXPECT_FALSE(fs::exists(target() + "/old"));
  EXPECT_TRUE(fs::exists(target() + "/large"));
  EXPECT_EQ(std::distance(fs::directory_iterator(place_.path()), fs::directory_iterator()), 2);
}

TEST_F(BadInput, AFileAsTargetIsWrongUsage) {
  std::ofstream(target()) << "a file";
  expect_one_sentence(run_walfs({"restore", url(), target()}), 2);
  EXPECT_EQ(read_whole_file(target()), "a file");
}

TEST_F(BadInput, ATargetInsideOfAMountIsRefused) {
  ReplicatedDirectory mounted;
  mounted.mount();
  const Output output = run_walfs({"restore", url(), mounted.path("restored")});
  expect_one_sentence(output, 2);
  expect_said(output, mounted.path());
  EXPECT_FALSE(fs::exists(mounted.path("restored")));
}

TEST_F(BadInput, CommandsNameWhatIsNotMounted) {
  for (const char* command : {"sync", "unmount", "status"}) {
    const Output output = run_walfs({command, place_.path()});
    EXPECT_NE(output.status, 0) << command;
    expect_said(output, place_.path());
  }
}

class Writers : public ::testing::Test {
 protected:
  static nlohmann::json status_of(const ReplicatedDirectory& directory) {
    const auto answer = control_request(directory.path(), {{"command", "status"}}, 10000);
    return answer ? *answer : nlohmann::json();
  }
  static nlohmann::json find_member(const nlohmann::json& json, const std::string& name) {
    if (json.is_object() && json.contains(name)) return json[name];
    for (const auto& child : json) {
      if (!child.is_structured()) continue;
      if (auto found = find_member(child, name); !found.is_null()) return found;
    }
    return {};
  }
};

TEST_F(Writers, ASecondWriterIsRefusedAndToldWhoHoldsTheReplica) {
  ReplicatedDirectory first;
  first.mount();
  std::ofstream(first.path("file")) << "of the first";
  first.sync();
  ReplicatedDirectory second(first.url());
  const Output output = second.try_mount();
  EXPECT_EQ(output.status, 1);
  expect_said(output, first.source());
  expect_said(output, "--take-over");
  EXPECT_FALSE(mount_at(second.path()));
}

TEST_F(Writers, WhoTakesOverFencesTheOneBefore) {
  ReplicatedDirectory first;
  first.mount({"--sync-interval", "50ms"});
  std::ofstream(first.path("file")) << "of the first";
  first.sync();
  ReplicatedDirectory second(first.url());
  std::ofstream(second.source() + "/file") << "of the second";
  const Output taken = second.try_mount({"--take-over", "--sync-interval", "50ms"});
  ASSERT_EQ(taken.status, 0) << taken.text;
  second.sync();
  // The first goes on serving its directory, but what it ships is no part of the history.
  std::ofstream(first.path("late")) << "too late";
  EXPECT_TRUE(wait_until([&] {
    const auto fenced = find_member(status_of(first), "fenced");
    return fenced.is_boolean() && fenced.get<bool>();
  })) << status_of(first).dump();
  const Output late = run_program({walfs_binary(), "sync", first.path(), "--timeout", "2s"});
  EXPECT_EQ(late.status, 1) << late.text;
  EXPECT_EQ(read_whole_file(first.path("late")), "too late");
  std::ofstream(second.path("new")) << "new";
  second.sync();
  const std::string restored = second.restore();
  EXPECT_EQ(read_whole_file(restored + "/file"), "of the second");
  EXPECT_EQ(read_whole_file(restored + "/new"), "new");
  EXPECT_FALSE(fs::exists(restored + "/late"));
}

}  // namespace
}  // namespace walfs::test
