// The first upload beside applications that write (I9).
#include <gtest/gtest.h>

#include "tests/support/unmounted_directory.h"

namespace walfs::test {
namespace {

// I9: slices are read between SQLite's calls; the snapshot with the log is a committed state.
class FirstUploads : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    TrackingStart, FirstUploads,
    ::testing::Values("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=20",
                      "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; PRAGMA cache_size=5; "
                      "PRAGMA cache_spill=5"),
    [](const auto& test) { return std::string(test.param).find("WAL") < 30 ? "Wal" : "Delete"; });

// I9.
TEST_P(FirstUploads, WhileSqliteWritesItHasACommittedStateAtItsEnd) {
  for (const uint32_t seed : seeds(4)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TrackedDirectory directory({.page_cache = seed % 2 == 0, .seed = seed, .start = false});
    make_database(directory.source("x.db"), 4000, "DELETE");
    directory.start();
    TrackedDatabases databases(directory);
    databases.open("x.db", GetParam());
    std::mt19937 random(seed);
    bool read = false;
    int calls = 0;
    const int when = static_cast<int>(random() % 60);
    databases.after_change = [&] {
      // In the middle of a transaction, most likely.
      if (++calls == when) {
        directory.read_unread();
        read = true;
      }
      if (random() % 3 == 0) directory.cut();
    };
    for (int i = 0; i < 12; ++i) {
      databases.exec("x.db",
                     "BEGIN; UPDATE t SET b = randomblob(700) WHERE a % 40 = " + std::to_string(i));
      databases.exec("x.db", "DELETE FROM t WHERE a > 3000 AND a % 50 = " + std::to_string(i));
      databases.exec("x.db", random() % 4 == 0 ? "ROLLBACK" : "COMMIT");
    }
    ASSERT_TRUE(read);
    databases.after_change = nullptr;
    for (int i = 0; i < 4; ++i) directory.cut();
    EXPECT_TRUE(directory.first_upload_done());
    databases.expect_points_are_states();
    databases.expect_newest_restored();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

// I9. It was read in the middle of a transaction, which has ended since; the first snapshot is of
// an instant that has that end.
TEST(TrackingFirstUpload, IsNotOfAnInstantBeforeTheEndOfATransactionThatItHasReadAPartOf) {
  TrackedDirectory directory({.start = false});
  make_database(directory.source("x.db"), 400, "DELETE");
  directory.start();
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA synchronous=FULL; PRAGMA cache_size=5; PRAGMA cache_spill=5");
  databases.exec("x.db", "BEGIN; UPDATE t SET b = randomblob(700)");
  directory.read_unread();
  const Cut instant = directory.take_instant();
  databases.exec("x.db", "COMMIT");
  directory.cut(instant);
  EXPECT_FALSE(directory.first_upload_done());
  directory.cut();
  EXPECT_TRUE(directory.first_upload_done());
  databases.expect_points_are_states();
  databases.expect_newest_restored();
}

// I9: a log that is found may be checkpointed and begin again before anybody can tell that its
// pages were synced. The file then has pages of transactions that were not taken from the log yet.
TEST(TrackingFirstUpload, OfADatabaseInDoubtWaitsUntilItsStateIsCertain) {
  for (const char* synchronous : {"NORMAL", "OFF"}) {
    for (const bool looked_between : {false, true}) {
      SCOPED_TRACE(std::string(synchronous) + (looked_between ? ", a cut between" : ""));
      TrackedDirectory directory(kNotStarted);
      make_database(directory.source("x.db"), 100, "WAL");
      make_database(directory.source("x.db"), 1, "WAL", /*hot=*/true);
      directory.start();
      TrackedDatabases databases(directory);
      databases.open("x.db", std::string("PRAGMA synchronous=") + synchronous);
      databases.exec("x.db", "PRAGMA wal_checkpoint(PASSIVE)");
      if (looked_between) directory.cut();
      databases.exec("x.db", "UPDATE t SET b = zeroblob(700) WHERE a % 2 = 1");
      databases.exec("x.db", "PRAGMA wal_checkpoint(PASSIVE)");
      if (looked_between) directory.cut();
      directory.read_unread();
      for (int i = 0; i < 5; ++i) directory.cut();
      EXPECT_TRUE(directory.first_upload_done());
      databases.expect_points_are_states();
      databases.expect_newest_restored();
    }
  }
}

// I1, I9: what is read between a write and its being told.
TEST(TrackingFirstUpload, DoesNotTakeAPageThatIsJustBeingWrittenForCommitted) {
  TrackedDirectory directory(kNotStarted);
  const std::string elsewhere = directory.spool() + ".hot.db";
  make_database_with_hot_journal(elsewhere, directory.spool() + ".y.db");
  make_database(directory.source("x.db"), 100, "DELETE");
  directory.start();
  const NodeId journal = directory.mount().open("x.db-journal");
  directory.mount().write(journal, 0, read_whole_file(elsewhere + "-journal"));
  const NodeId database = directory.mount().open("x.db");
  {
    const FileDescriptor file(::open(directory.source("x.db").c_str(), O_RDWR | O_CLOEXEC));
    struct stat attributes {};
    ASSERT_EQ(::fstat(file.get(), &attributes), 0);
    TrackedFile* handle = directory.tracker().attach(file.get(), attributes, nullptr, nullptr);
    const Bytes page(1024, uint8_t{'p'});
    directory.tracker().before_write(handle, 1024, page);
    ASSERT_EQ(::pwrite(file.get(), page.data(), page.size(), 1024), 1024);
    directory.read_unread();
    directory.tracker().wrote(handle, 1024, page.size());
    directory.tracker().detach(handle);
  }
  for (int i = 0; i < 3; ++i) directory.cut();
  EXPECT_FALSE(directory.first_upload_done());
  directory.mount().sync(database);
  directory.mount().close(journal);
  directory.mount().unlink("x.db-journal");
  directory.mount().close(database);
  for (int i = 0; i < 3; ++i) directory.cut();
  EXPECT_TRUE(directory.first_upload_done());
  directory.sync();
  directory.expect_all_restored();
}

// Names and files come and go while the first upload reads.
TEST(TrackingFirstUpload, BesideFilesThatChangeHasTheirLastState) {
  TrackedDirectory directory(kNotStarted);
  for (int i = 0; i < 12; ++i)
    write_outside(directory.source("f" + std::to_string(i)), std::string(50'000, 'a'));
  directory.start();
  directory.mount().append("f1", "before");
  directory.mount().unlink("f2");
  directory.mount().rename("f3", "g3");
  directory.mount().rename("f4", "f5");
  const NodeId open = directory.mount().open("f6");
  directory.mount().write(open, 20'000, "in the middle");
  directory.mount().put("new", "new");
  directory.cut();
  directory.read_unread();
  directory.mount().append("f7", "after");
  directory.mount().unlink("f8");
  directory.mount().rename("f9", "g9");
  directory.mount().close(open);
  for (int i = 0; i < 3; ++i) directory.cut();
  EXPECT_TRUE(directory.first_upload_done());
  directory.sync();
  directory.expect_all_restored();
}

// I9: chunks that are there do not go up again.
TEST(TrackingFirstUpload, ThatWasInterruptedDoesNotSendItsChunksAgain) {
  TrackedDirectory directory(kNotStarted);
  std::mt19937 random(5);
  for (int i = 0; i < 3; ++i) {
    std::string content(3 << 20, '\0');
    for (char& byte : content) byte = static_cast<char>(random());
    write_outside(directory.source("big" + std::to_string(i)), content);
  }
  directory.start();
  directory.read_unread();
  const size_t chunks = directory.store.keys(std::string(kChunkPrefix)).size();
  EXPECT_GE(chunks, 9u);
  directory.abandon();
  directory.store.forget_requests();
  directory.start();
  EXPECT_TRUE(directory.writer().fresh);
  directory.finish_first_upload();
  EXPECT_EQ(directory.store.count(Call::kPut, std::string(kChunkPrefix)), 0u);
  EXPECT_EQ(directory.store.keys(std::string(kChunkPrefix)).size(), chunks);
  directory.sync();
  directory.expect_all_restored();
}

// The state of the directory stays, for its changes are not in the log yet; its descriptor goes.
TEST(TrackingFirstUpload, FindsAFileInADirectoryThatTheKernelHasForgotten) {
  TrackedDirectory directory({.start = false});
  std::ofstream(directory.source("a")) << std::string(100'000, 'a');
  directory.start();
  directory.mount().make_directory("d");
  directory.mount().rename("a", "d/a");
  directory.mount().drop_caches();
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
}

}  // namespace
}  // namespace walfs::test
