// Exports to Litestream: what they write is what the format says, walfs's own reader restores it
// byte by byte, and nothing is left of an export that fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include "replicator/litestream/export.h"
#include "replicator/litestream/ltx_stream.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/restore.h"
#include "tests/support/ltx_file.h"
#include "tests/support/replica_builder.h"

namespace {

bool without_hard_links = false;

}  // namespace

// In place of the C library's, for all of this program.
extern "C" int linkat(int from, const char* name, int to, const char* new_name,
                      int flags) noexcept {
  if (!without_hard_links)
    return static_cast<int>(::syscall(SYS_linkat, from, name, to, new_name, flags));
  errno = EPERM;
  return -1;
}

namespace walfs::litestream {
namespace {

namespace fs = std::filesystem;
using test::LtxFile;
using test::read_whole;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kSnapshotFile = "/ltx/9/0000000000000001-0000000000000001.ltx";
constexpr const char* kWriterFile = "/ltx/0/0000000000000001-0000000000000001.ltx";

// A real database, closed.
Bytes make_database(uint32_t page_size, const std::string& journal, int rows) {
  const test::ScratchDirectory scratch;
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(scratch.path("db").c_str(), &database), SQLITE_OK);
  const std::string sql =
      "PRAGMA synchronous=OFF; PRAGMA page_size=" + std::to_string(page_size) +
      "; PRAGMA journal_mode=" + journal +
      "; CREATE TABLE t(v); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<" +
      std::to_string(rows) + ") INSERT INTO t SELECT randomblob(300) FROM n";
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(database);
  sqlite3_close(database);
  return read_whole(scratch.path("db"));
}

class LitestreamExport : public ::testing::Test {
 protected:
  LitestreamExport() { builder_.put_snapshot(builder_.start(), builder_.start()); }

  FileId make(FileId parent, const std::string& name, FileType type) {
    Attributes attributes;
    attributes.type = type;
    attributes.mode = 0644;
    if (type == FileType::kSymlink) attributes.symlink_target = "elsewhere";
    point_.changes.emplace_back(SetFile{++ids_, attributes});
    point_.changes.emplace_back(SetEntry{parent, name, ids_});
    return ids_;
  }
  void set_content(FileId id, const Bytes& content, uint32_t block_size, bool database) {
    SetContent change = builder_.log().difference(id, content, block_size);
    change.database = database;
    change.checksum.reset();
    point_.changes.emplace_back(std::move(change));
  }
  FileId make_file(FileId parent, const std::string& name, const Bytes& content,
                   uint32_t block_size, bool database = true) {
    const FileId id = make(parent, name, FileType::kRegular);
    set_content(id, content, block_size, database);
    return id;
  }
  // What was made since the last point becomes one.
  Position commit() {
    builder_.add(std::exchange(point_, {}));
    builder_.seal();
    return builder_.last();
  }

  std::string target() const { return scratch_.path("target"); }
  Result<ExportReport> run(const RestoreOptions& options = {}) {
    return export_databases(store_, target(), options);
  }
  // By the reader of walfs.
  void expect_restored(const std::string& path, const Bytes& content) {
    const auto store = open_store("file://" + target() + "/" + path, {}, false);
    ASSERT_TRUE(store.ok()) << store.error().message;
    RestoreOptions options;
    options.force = true;
    const auto restored = restore_database(**store, "app.db", scratch_.path("restored"), options);
    ASSERT_TRUE(restored.ok()) << path << ": " << restored.error().message;
    EXPECT_EQ(restored->position, txid_text(1));
    EXPECT_EQ(restored->time_ns, test::ReplicaBuilder::time_of(builder_.last()));
    EXPECT_TRUE(read_whole(scratch_.path("restored/app.db")) == content) << path;
  }
  void expect_nothing_left() const { EXPECT_TRUE(fs::is_empty(scratch_.path())); }

  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
  test::ReplicaBuilder builder_{store_, 1};
  Point point_;
  FileId ids_ = 100;
};

TEST_F(LitestreamExport, GivesEveryDatabaseBackByteForByte) {
  std::map<std::string, Bytes> databases;
  const FileId below = make(kRootId, "db", FileType::kDirectory);
  const FileId deeper = make(below, "deeper", FileType::kDirectory);
  for (const uint32_t page_size : {512U, 1024U, 4096U, 65536U}) {
    for (const char* journal : {"delete", "wal"}) {
      const std::string name = std::string(journal) + std::to_string(page_size);
      // More than is read at once.
      const Bytes content = make_database(page_size, journal, page_size == 4096 ? 5000 : 300);
      make_file(deeper, name, content, page_size);
      databases["db/deeper/" + name] = content;
    }
  }
  const Bytes top = make_database(4096, "wal", 1);
  make_file(kRootId, "app.db", top, 4096);
  databases["app.db"] = top;
  const Position position = commit();
  const auto report = run();
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->position, position);
  EXPECT_EQ(report->time_ns, test::ReplicaBuilder::time_of(position));
  EXPECT_EQ(report->directory, fs::canonical(target()));
  EXPECT_EQ(report->databases.size(), databases.size());
  EXPECT_EQ(report->other_files, 0U);
  for (const auto& [path, content] : databases) expect_restored(path, content);
  // The writer of Litestream, which looks at level 0 alone, finds the same there.
  for (const auto& [path, content] : databases) {
    EXPECT_TRUE(read_whole(target() + "/" + path + kSnapshotFile) ==
                read_whole(target() + "/" + path + kWriterFile));
    fs::remove_all(target() + "/" + path + "/ltx/9");
    expect_restored(path, content);
  }
}

// What the tests write by the description of the format.
TEST_F(LitestreamExport, WritesTheBytesThatTheFormatDescribes) {
  for (const uint32_t page_size : {512U, 65536U}) {
    const Bytes content = make_database(page_size, "wal", 200);
    const std::string name = std::to_string(page_size);
    make_file(kRootId, name, content, page_size);
    const Position position = commit();
    fs::remove_all(target());
    ASSERT_TRUE(run().ok());
    LtxFile expected;
    expected.page_size = page_size;
    expected.pages = static_cast<uint32_t>(content.size() / page_size);
    expected.time_ms = test::ReplicaBuilder::time_of(position) / 1'000'000;
    for (size_t at = 0; at < content.size(); at += page_size)
      expected.content[static_cast<uint32_t>(at / page_size + 1)].assign(
          content.begin() + static_cast<std::ptrdiff_t>(at),
          content.begin() + static_cast<std::ptrdiff_t>(at + page_size));
    EXPECT_TRUE(read_whole(target() + "/" + name + kSnapshotFile) == expected.bytes());
  }
}

TEST_F(LitestreamExport, NeedsNoHardLinks) {
  const Bytes content = make_database(4096, "wal", 30);
  make_file(kRootId, "app.db", content, 4096);
  commit();
  without_hard_links = true;
  const auto report = run();
  without_hard_links = false;
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_FALSE(
      fs::equivalent(target() + "/app.db" + kSnapshotFile, target() + "/app.db" + kWriterFile));
  EXPECT_TRUE(read_whole(target() + "/app.db" + kSnapshotFile) ==
              read_whole(target() + "/app.db" + kWriterFile));
  expect_restored("app.db", content);
}

// Litestream takes the time of a file for that of the state in it.
TEST_F(LitestreamExport, FilesHaveTheTimeOfTheStateAndAreForTheirOwnerOnly) {
  make_file(kRootId, "app.db", make_database(4096, "wal", 1), 4096);
  const Position position = commit();
  ASSERT_TRUE(run().ok());
  for (const char* file : {kSnapshotFile, kWriterFile}) {
    struct stat attributes {};
    ASSERT_EQ(::stat((target() + "/app.db" + file).c_str(), &attributes), 0);
    EXPECT_EQ(attributes.st_mtim.tv_sec, test::ReplicaBuilder::time_of(position) / 1'000'000'000);
    EXPECT_EQ(attributes.st_mode & 0777, 0600U);
  }
  struct stat attributes {};
  ASSERT_EQ(::stat(target().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777, 0700U);
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(target()))
    files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 2U);
}

TEST_F(LitestreamExport, TakesTheStateThatIsWanted) {
  const Bytes before = make_database(4096, "wal", 50);
  const FileId id = make_file(kRootId, "app.db", before, 4096);
  const Position position = commit();
  set_content(id, make_database(4096, "wal", 900), 4096, true);
  commit();
  RestoreOptions options;
  options.target.position = position;
  const auto report = run(options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->position, position);
  EXPECT_EQ(report->databases[0].bytes, before.size());
  fs::rename(target(), scratch_.path("older"));
  options.target = {};
  options.target.time_ns = test::ReplicaBuilder::time_of(position);
  ASSERT_TRUE(run(options).ok());
  EXPECT_TRUE(read_whole(target() + "/app.db" + kSnapshotFile) ==
              read_whole(scratch_.path("older/app.db") + kSnapshotFile));
}

TEST_F(LitestreamExport, CountsWhatIsNoDatabase) {
  const Bytes database = make_database(4096, "delete", 10);
  const FileId below = make(kRootId, "db", FileType::kDirectory);
  const FileId id = make_file(below, "one.db", database, 4096);
  make_file(kRootId, "two.db", database, 4096);
  make_file(kRootId, "empty.db", {}, 4096);
  make_file(kRootId, "text", Bytes(5000, 't'), 16384, false);
  make(kRootId, "link", FileType::kSymlink);
  point_.changes.emplace_back(SetEntry{kRootId, "hard-link.db", id});
  commit();
  auto report = run();
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->other_files, 3U);
  EXPECT_EQ(report->databases.size(), 3U);
  expect_restored("db/one.db", database);
  expect_restored("two.db", database);
  expect_restored("hard-link.db", database);
  EXPECT_FALSE(fs::exists(target() + "/text"));
  EXPECT_FALSE(fs::exists(target() + "/empty.db"));
  fs::remove_all(target());
  RestoreOptions options;
  options.only = {"db", "text"};
  report = run(options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->other_files, 1U);
  ASSERT_EQ(report->databases.size(), 1U);
  EXPECT_EQ(report->databases[0].path, "db/one.db");
}

// As SQLite reads them: what is missing of the last page is zeros. Without a header that we
// understand the blocks are the pages.
TEST_F(LitestreamExport, DatabasesNeedNotBeWhole) {
  Bytes content = make_database(4096, "wal", 30);
  content.resize(content.size() - 4096);
  content.resize(content.size() + 100, 'x');
  make_file(kRootId, "short", content, 4096);
  Bytes unknown(3 * 1024);
  for (size_t i = 0; i < unknown.size(); ++i) unknown[i] = static_cast<uint8_t>(i * 7);
  make_file(kRootId, "unknown", unknown, 1024);
  commit();
  const auto report = run();
  ASSERT_TRUE(report.ok()) << report.error().message;
  for (const auto& [name, expected, page_size] :
       {std::tuple{"short", content, 4096U}, std::tuple{"unknown", unknown, 1024U}}) {
    Bytes found;
    LtxStream stream(name, [&found](uint32_t, ByteView page) -> Status {
      found.insert(found.end(), page.begin(), page.end());
      return {};
    });
    ASSERT_TRUE(stream.add(read_whole(target() + "/" + name + kSnapshotFile)).ok());
    EXPECT_TRUE(stream.finish().ok());
    EXPECT_EQ(stream.header()->page_size, page_size);
    Bytes whole = expected;
    whole.resize((whole.size() + page_size - 1) / page_size * page_size);
    EXPECT_TRUE(found == whole) << name;
  }
}

// What lies there is not the state before the transaction, and not that after it.
TEST_F(LitestreamExport, ADatabaseWithAHotJournalIsRefused) {
  const Bytes database = make_database(4096, "delete", 1);
  make_file(kRootId, "hot.db", database, 4096);
  make_file(kRootId, "hot.db-journal", Bytes(600, 'j'), 16384, false);
  make_file(kRootId, "other.db", database, 4096);
  make_file(kRootId, "other.db-journal", {}, 16384, false);
  commit();
  RestoreOptions options;
  for (const auto& only : {std::vector<std::string>{}, std::vector<std::string>{"*.db"}}) {
    options.only = only;
    const auto refused = run(options);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, Errc::kUnsupported);
    EXPECT_THAT(refused.error().message, HasSubstr("hot.db has a journal"));
    expect_nothing_left();
  }
  options.only = {"other.db"};
  ASSERT_TRUE(run(options).ok());
  expect_restored("other.db", database);
}

TEST_F(LitestreamExport, NeedsADatabase) {
  make_file(kRootId, "text", Bytes(5000, 't'), 16384, false);
  commit();
  const auto none = run();
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, Errc::kNothingThere);
  EXPECT_THAT(none.error().message, HasSubstr("there is no database in the replica"));
  RestoreOptions options;
  options.only = {"*.db"};
  const auto unnamed = run(options);
  ASSERT_FALSE(unnamed.ok());
  EXPECT_EQ(unnamed.error().code, Errc::kNothingThere);
  EXPECT_THAT(unnamed.error().message, HasSubstr("--only"));
  expect_nothing_left();
}

TEST_F(LitestreamExport, NeedsANewOrEmptyDirectory) {
  const Bytes database = make_database(4096, "wal", 1);
  make_file(kRootId, "app.db", database, 4096);
  commit();
  fs::create_directory(target());
  test::write_whole(target() + "/old", as_bytes("old"));
  RestoreOptions options;
  options.force = true;
  const auto refused = run(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("is not empty; export to a new directory"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("--force")));
  EXPECT_EQ(as_text(read_whole(target() + "/old")), "old");
  fs::remove(target() + "/old");
  ASSERT_TRUE(run().ok());
  expect_restored("app.db", database);
  const auto orphan = export_databases(store_, scratch_.path("missing/target"), {});
  ASSERT_FALSE(orphan.ok());
  EXPECT_EQ(orphan.error().code, Errc::kUsage);
  EXPECT_THAT(orphan.error().message, HasSubstr("missing does not exist"));
}

class FailingExport : public LitestreamExport {
 protected:
  FailingExport() {
    make_file(kRootId, "one.db", make_database(4096, "wal", 100), 4096);
    commit();
    make_file(kRootId, "two.db", make_database(4096, "wal", 100), 4096);
    commit();
  }
  // One that stood there is as it was.
  void expect_refused(Errc code, const RestoreOptions& options = {}) {
    fs::create_directory(target());
    const auto report = run(options);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code, code) << report.error().message;
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path()))
      names.push_back(entry.path());
    EXPECT_THAT(names, ElementsAre(target()));
  }
};

TEST_F(FailingExport, LeavesNothingWhenItIsInterrupted) {
  std::atomic<bool> cancelled{true};
  RestoreOptions options;
  options.cancelled = &cancelled;
  expect_refused(Errc::kCancelled, options);
  cancelled = false;
  // When the second database is there, and not yet written.
  uint64_t last = 0;
  options.progress = [&](const RestoreProgress& progress) {
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    EXPECT_GE(progress.bytes_done, last);
    last = progress.bytes_done;
    cancelled = progress.bytes_done > progress.bytes_total / 2;
  };
  expect_refused(Errc::kCancelled, options);
  EXPECT_TRUE(cancelled);
}

TEST_F(FailingExport, LeavesNothingWhenTheReplicaIsDamagedOrAway) {
  const std::string newest = store_.keys("log/").back();
  store_.fail(test::Call::kGetRange, Errc::kRetry, 1, 7);
  expect_refused(Errc::kRetry);
  store_.heal();
  store_.flip(newest, 40);
  expect_refused(Errc::kDamaged);
  store_.flip(newest, 40);
  EXPECT_TRUE(run().ok());
}

}  // namespace
}  // namespace walfs::litestream
