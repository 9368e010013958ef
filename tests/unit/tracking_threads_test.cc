// Many threads at once, for the thread sanitizer: requests on files, logs and names, cuts, the
// first upload. What is restored at the end is what is there.
#include <gtest/gtest.h>

#include <thread>

#include "fs/tracking/content_scan.h"
#include "replicator/verify.h"
#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

constexpr int kRounds = 150;

// One application: its files are its own, the directories are everybody's. The operations are used
// as the mount's threads use them.
class Application {
 public:
  Application(Operations& operations, int number) : operations_(operations), random_(number) {
    prefix_ = "app" + std::to_string(number) + "-";
  }
  void run() {
    for (int round = 0; round < kRounds; ++round) {
      const std::string file = prefix_ + std::to_string(random_() % 3);
      switch (random_() % 8) {
        case 0:
        case 1:
        case 2:
          write(file, random_() % 60'000);
          break;
        case 3:
          write(file + "-wal", random_() % 4096);
          break;
        case 4:
          unlink(file);
          break;
        case 5:
          rename(file, prefix_ + std::to_string(random_() % 3));
          break;
        case 6:
          unlink(file + "-wal");
          break;
        default:
          change_mode(file);
      }
    }
  }

 private:
  void write(const std::string& name, uint64_t offset) {
    Entry entry;
    if (operations_.create(caller_, kRootNode, name.c_str(), 0644, O_RDWR, entry) != 0) return;
    const Bytes bytes(1 + random_() % 3000, static_cast<uint8_t>(random_()));
    size_t written = 0;
    EXPECT_EQ(operations_.write(entry.node, offset, bytes, false, true, written), 0);
    if (random_() % 3 == 0) {
      const auto work = operations_.sync(caller_, entry.node, true, [](int) {});
      if (work) work();
    } else if (const auto ahead = operations_.sync_ahead(entry.node)) {
      ahead();
    }
    struct stat after {};
    const AttributeChange shorter{.valid = AttributeChange::kSize, .size = offset / 2};
    if (random_() % 5 == 0) operations_.set_attributes(entry.node, shorter, after);
    operations_.release(entry.node, O_RDWR);
    operations_.forget(entry.node, 1);
  }
  // The kernel knows what it changes: it has looked it up.
  void unlink(const std::string& name) {
    Entry entry;
    if (operations_.lookup(kRootNode, name.c_str(), entry) != 0) return;
    EXPECT_EQ(operations_.unlink(kRootNode, name.c_str(), false), 0);
    operations_.forget(entry.node, 1);
  }
  void rename(const std::string& from, const std::string& to) {
    Entry entry;
    Entry replaced;
    if (operations_.lookup(kRootNode, from.c_str(), entry) != 0) return;
    const bool over = operations_.lookup(kRootNode, to.c_str(), replaced) == 0;
    EXPECT_EQ(operations_.rename(kRootNode, from.c_str(), kRootNode, to.c_str(), 0), 0);
    operations_.forget(entry.node, 1);
    if (over) operations_.forget(replaced.node, 1);
  }
  void change_mode(const std::string& name) {
    Entry entry;
    if (operations_.lookup(kRootNode, name.c_str(), entry) != 0) return;
    struct stat after {};
    const AttributeChange mode{.valid = AttributeChange::kMode,
                               .mode = static_cast<mode_t>(random_() % 01000)};
    operations_.set_attributes(entry.node, mode, after);
    operations_.forget(entry.node, 1);
  }

  Operations& operations_;
  std::mt19937 random_;
  std::string prefix_;
  const Caller caller_{0, 0, 1, 022};
};

void work(bool unread) {
  TrackedDirectory directory({.start = false});
  for (int i = 0; i < 20; ++i) {
    const std::string name = i < 9 ? "app" + std::to_string(i % 3) + "-" + std::to_string(i / 3)
                                   : "other" + std::to_string(i);
    write_whole(directory.source(name), Bytes(40'000, static_cast<uint8_t>(i)));
  }
  directory.start();
  if (!unread) directory.finish_first_upload();
  std::atomic<int> running{3};
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&, number] {
      Application(directory.mount().operations(), number).run();
      --running;
    });
  }
  std::thread scan([&] {
    if (unread) directory.read_unread();
  });
  std::thread status([&] {
    while (running > 0)
      for (const auto& file : directory.tracker().all_states()) directory.tracker().path_of(*file);
  });
  // No pages wait in this mount, so a cut needs nothing of it.
  while (running > 0) directory.cut(directory.take_instant());
  for (std::thread& thread : threads) thread.join();
  scan.join();
  status.join();
  for (int i = 0; i < 4; ++i) directory.cut();
  EXPECT_TRUE(directory.first_upload_done());
  directory.sync();
  directory.expect_all_restored();
}

TEST(TrackingThreads, WhatManyThreadsWroteComesBack) {
  work(false);
}

// The cutter finds that a file is no database any more, while the application removes its journal.
TEST(TrackingThreads, ACompanionThatIsRemovedWhileItGetsItsPlaceLeavesNoEntry) {
  TrackedDirectory directory;
  TrackedMount& mount = directory.mount();
  // The header of an empty database with pages of 4096 bytes.
  std::string database("SQLite format 3\0\x10\0\1\1\0\x40\x20\x20", 24);
  database.resize(4096);
  mount.put("x", database);
  const auto file = directory.tracker().open_path("x");
  ASSERT_NE(file, nullptr);
  std::atomic<bool> done{false};
  std::thread cutter([&] {
    while (!done) directory.tracker().reclassify_companions(file, false);
  });
  for (int i = 0; i < 1500; ++i) {
    mount.put("x", database);
    mount.put("x-journal", "journal");
    mount.put("x", "an ordinary file");
    mount.unlink("x-journal");
  }
  done = true;
  cutter.join();
  directory.sync();
  directory.expect_all_restored();
  EXPECT_TRUE(verify_replica(directory.store).ok());
}

// I9.
TEST(TrackingThreads, WhatManyThreadsWroteDuringTheFirstUploadComesBack) {
  work(true);
}

// I5: while a cut waits for another database, transactions come that are checkpointed at once.
TEST(TrackingThreads, ATransactionThatIsCheckpointedDuringACutIsNotDoubted) {
  TrackedDirectory directory({.page_cache = true});
  TrackedDatabases databases(directory);
  for (const char* name : {"x.db", "y.db"}) {
    databases.open(name, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    databases.exec(name, "CREATE TABLE t(a); CREATE TABLE u(a); PRAGMA wal_checkpoint");
  }
  directory.cut();
  databases.exec("x.db", "INSERT INTO t VALUES(1)");
  directory.mount().write_back_all();
  databases.exec("y.db", "INSERT INTO t VALUES(1)");
  const Cut instant = directory.take_instant();
  std::thread application([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    databases.exec("x.db", "INSERT INTO u VALUES(1); PRAGMA wal_checkpoint");
    directory.mount().write_back_all();  // What the cut waits for.
  });
  EXPECT_TRUE(directory.cut(instant));
  application.join();
  EXPECT_FALSE(directory.cutter().unsettled());
  databases.expect_points_are_states();
  directory.cut();
  databases.expect_newest_restored();
}

}  // namespace
}  // namespace walfs::test
