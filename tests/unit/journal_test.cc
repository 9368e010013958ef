#include "fs/capture/journal.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "fs/capture/sqlite_header.h"
#include "tests/unit/sqlite_directory.h"
#include "tests/unit/wal_builder.h"

namespace walfs {
namespace {

using testing::put_be32;
using testing::reader;
using testing::SqliteDirectory;

Bytes live_journal() {
  Bytes file(512);
  std::copy(kJournalMagic.begin(), kJournalMagic.end(), file.begin());
  put_be32(file, 8, 3);
  put_be32(file, 12, 0x12345678);
  put_be32(file, 16, 7);
  put_be32(file, 20, 512);
  put_be32(file, 24, 4096);
  return file;
}

JournalState state_of(const Bytes& file) {
  return journal_state(file, file.size());
}

TEST(Journal, ReadsTheHeaderOfALiveOne) {
  const auto header = parse_journal_header(live_journal(), 512);
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->records, 3U);
  EXPECT_EQ(header->nonce, 0x12345678U);
  EXPECT_EQ(header->initial_pages, 7U);
  EXPECT_EQ(header->sector_size, 512U);
  EXPECT_EQ(header->page_size, 4096U);
}

TEST(Journal, IsNoneWhenItIsShorterThanAHeader) {
  for (size_t size = 0; size < kJournalHeaderSize; ++size) {
    Bytes file = live_journal();
    file.resize(size);
    EXPECT_EQ(state_of(file), JournalState::kNone) << size;
  }
}

TEST(Journal, HasEndedWhenItsHeaderIsZeroed) {
  Bytes file = live_journal();
  std::fill_n(file.begin(), kJournalHeaderSize, uint8_t{0});
  EXPECT_EQ(state_of(file), JournalState::kEnded);
  EXPECT_FALSE(journal_nonce(file, file.size()).has_value());
}

TEST(Journal, IsStartingBeforeItsMagicIsWritten) {
  Bytes file = live_journal();
  std::fill_n(file.begin(), 12, uint8_t{0});
  EXPECT_EQ(state_of(file), JournalState::kStarting);
  EXPECT_EQ(journal_nonce(file, file.size()), 0x12345678U);
  EXPECT_FALSE(journal_is_live(file, file.size()));
}

TEST(Journal, IsInvalidWithSizesThatSqliteRefuses) {
  const std::pair<size_t, uint32_t> faults[] = {{20, 0},   {20, 16},  {20, 513},   {20, 131072},
                                                {24, 256}, {24, 600}, {24, 131072}};
  for (const auto& [at, value] : faults) {
    Bytes file = live_journal();
    put_be32(file, at, value);
    EXPECT_EQ(state_of(file), JournalState::kInvalid) << at << " " << value;
  }
  Bytes other_magic = live_journal();
  other_magic[7] ^= 1;
  EXPECT_EQ(state_of(other_magic), JournalState::kInvalid);
  EXPECT_EQ(journal_state(live_journal(), 511), JournalState::kInvalid) << "less than a sector";
}

TEST(Journal, AcceptsThePageSizeZeroOfOldVersions) {
  Bytes file = live_journal();
  put_be32(file, 24, 0);
  EXPECT_EQ(state_of(file), JournalState::kLive);
}

// SQLite's own journals.

class JournalOfSqlite : public ::testing::TestWithParam<const char*> {
 protected:
  // A transaction that changes the database file before it ends, so that the journal is synced.
  void begin_spilled() {
    directory_.exec("BEGIN; UPDATE t SET b = randomblob(300)");
    ASSERT_EQ(state_of(directory_.read("x.db-journal")), JournalState::kLive);
  }
  void SetUp() override {
    directory_.open();
    directory_.exec(std::string("PRAGMA page_size=512; PRAGMA journal_mode=") + GetParam() +
                    "; PRAGMA cache_size=4; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40)"
                    "INSERT INTO t SELECT i, randomblob(300) FROM n");
  }
  SqliteDirectory directory_;
};

TEST_P(JournalOfSqlite, StartsLivesAndEnds) {
  const uint64_t pages = directory_.read("x.db").size() / 512;
  directory_.exec("BEGIN; UPDATE t SET b = 1 WHERE a = 1");
  EXPECT_EQ(state_of(directory_.read("x.db-journal")), JournalState::kStarting);
  directory_.exec("ROLLBACK");
  begin_spilled();
  const Bytes file = directory_.read("x.db-journal");
  const auto header = parse_journal_header(file, file.size());
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->page_size, 512U);
  EXPECT_EQ(header->initial_pages, pages);
  directory_.exec("COMMIT");
  const JournalState state = state_of(directory_.read("x.db-journal"));
  EXPECT_TRUE(state == JournalState::kNone || state == JournalState::kEnded);
}

TEST_P(JournalOfSqlite, HasAnotherNonceInEachTransaction) {
  std::set<uint32_t> nonces;
  for (int i = 0; i < 5; ++i) {
    begin_spilled();
    const Bytes file = directory_.read("x.db-journal");
    nonces.insert(journal_nonce(file, file.size()).value_or(0));
    directory_.exec(i % 2 == 0 ? "COMMIT" : "ROLLBACK");
  }
  EXPECT_EQ(nonces.size(), 5U);
}

TEST_P(JournalOfSqlite, CountsRecordsByTheSizeWithoutSyncs) {
  directory_.exec("PRAGMA synchronous=OFF");
  begin_spilled();
  const Bytes file = directory_.read("x.db-journal");
  EXPECT_EQ(parse_journal_header(file, file.size())->records, kJournalRecordsToTheEnd);
  directory_.exec("COMMIT");
}

INSTANTIATE_TEST_SUITE_P(Modes, JournalOfSqlite, ::testing::Values("DELETE", "TRUNCATE", "PERSIST"),
                         [](const auto& mode) { return std::string(mode.param); });

// Super-journals.

// With `name` at the end, whose checksum adds up the bytes as signed or unsigned chars.
Bytes journal_with_super_journal(const std::string& name, bool as_signed) {
  Bytes file = live_journal();
  const size_t at = file.size();
  file.resize(at + 4 + name.size() + 16);
  put_be32(file, at, lock_page(4096));
  std::copy(name.begin(), name.end(), file.begin() + static_cast<long>(at) + 4);
  uint32_t sum = 0;
  for (const char c : name)
    sum += as_signed ? static_cast<uint32_t>(static_cast<signed char>(c))
                     : static_cast<unsigned char>(c);
  put_be32(file, file.size() - 16, static_cast<uint32_t>(name.size()));
  put_be32(file, file.size() - 12, sum);
  std::copy(kJournalMagic.begin(), kJournalMagic.end(), file.end() - 8);
  return file;
}

TEST(SuperJournal, IsNamedAtTheEndOfTheJournal) {
  for (const bool as_signed : {true, false}) {
    const std::string path = "/d\xc3\xb6rfer/app.db-mj0123459AB";
    const Bytes file = journal_with_super_journal(path, as_signed);
    EXPECT_EQ(super_journal_name(reader(file), file.size()), path);
  }
}

TEST(SuperJournal, IsNoneWhenAnythingOfTheNameIsBroken) {
  const Bytes good = journal_with_super_journal("/a/app.db-mj0123459AB", true);
  for (size_t at = 512 + 4; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= 1;
    EXPECT_FALSE(super_journal_name(reader(bad), bad.size()).has_value()) << at;
  }
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(super_journal_name(reader(good), size).has_value()) << size;
}

TEST(SuperJournal, IsNoneWhenTheNameIsLongerThanTheBoundOrTheFile) {
  Bytes file = journal_with_super_journal(std::string(4097, 'a'), true);
  EXPECT_FALSE(super_journal_name(reader(file), file.size()).has_value());
  file = journal_with_super_journal(std::string(4096, 'a'), true);
  EXPECT_TRUE(super_journal_name(reader(file), file.size()).has_value());
  put_be32(file, file.size() - 16, 0xffffffff);
  EXPECT_FALSE(super_journal_name(reader(file), file.size()).has_value());
}

// A VFS that keeps the journals as they are when SQLite deletes the super-journal, which is the
// moment when a transaction over several databases commits.
struct DeleteSpy {
  static inline sqlite3_vfs* real = nullptr;
  static inline SqliteDirectory* directory = nullptr;
  static inline std::string super_journal;
  static inline std::map<std::string, Bytes> journals;
  static int on_delete(sqlite3_vfs*, const char* name, int sync) {
    if (std::string(name).find("-mj") != std::string::npos) {
      super_journal = name;
      for (const char* journal : {"x.db-journal", "y.db-journal"})
        journals[journal] = directory->read(journal);
    }
    return real->xDelete(real, name, sync);
  }
};

TEST(SuperJournal, IsNamedByTheJournalsOfATransactionOverTwoDatabases) {
  SqliteDirectory directory;
  DeleteSpy::directory = &directory;
  DeleteSpy::real = sqlite3_vfs_find(nullptr);
  sqlite3_vfs spy = *DeleteSpy::real;
  spy.zName = "delete-spy";
  spy.xDelete = DeleteSpy::on_delete;
  ASSERT_EQ(sqlite3_vfs_register(&spy, 0), SQLITE_OK);
  directory.open("delete-spy");
  directory.exec("CREATE TABLE t(a); ATTACH '" + directory.path("y.db") +
                 "' AS y; CREATE TABLE y.t(a);"
                 "BEGIN; INSERT INTO main.t VALUES(1); INSERT INTO y.t VALUES(2); COMMIT");
  directory.close();
  sqlite3_vfs_unregister(&spy);
  ASSERT_EQ(DeleteSpy::journals.size(), 2U);
  EXPECT_EQ(parse_companion_name(DeleteSpy::super_journal).kind, CompanionKind::kSuperJournal);
  EXPECT_EQ(parse_companion_name(DeleteSpy::super_journal).database, directory.path("x.db"));
  for (const auto& [name, file] : DeleteSpy::journals) {
    EXPECT_EQ(state_of(file), JournalState::kLive) << name;
    EXPECT_EQ(super_journal_name(reader(file), file.size()), DeleteSpy::super_journal) << name;
  }
}

}  // namespace
}  // namespace walfs
