// Differences that are too large for one point: they come in partial points, of which no state is
// ever restored.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "replicator/replica.h"
#include "replicator/verify.h"
#include "tests/support/simulated_store.h"
#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

constexpr uint64_t kPart = 32 << 10;
constexpr const char* kTable = "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)";

std::string noise(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random() >> 9);
  return text;
}

void write_outside(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

void write_database(const std::string& path, const char* mode, int rows) {
  sqlite3* db = nullptr;
  sqlite3_open(path.c_str(), &db);
  const std::string sql =
      std::string("PRAGMA page_size=1024; PRAGMA journal_mode=") + mode + "; " + kTable +
      "; UPDATE t SET b=randomblob(900); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 "
      "FROM n WHERE i<" +
      std::to_string(rows) + ") INSERT INTO t(b) SELECT randomblob(900) FROM n";
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
}

// A directory with a replica that nobody serves, and what was done to it since.
class TrackingParts : public ::testing::Test {
 protected:
  TrackingParts() : directory_({.page_cache = true, .start = false, .part_bytes = kPart}) {
    for (int i = 0; i < 20; ++i)
      write_outside(directory_.source("small" + std::to_string(i)), noise(9000, 1000 + i));
    write_outside(directory_.source("large"), noise(400'000, 1));
    write_outside(directory_.source("shrinks"), noise(300'000, 2));
    write_outside(directory_.source("goes"), noise(100'000, 3));
    write_outside(directory_.source("same"), noise(200'000, 4));
    write_database(directory_.source("x.db"), "WAL", 200);
    write_database(directory_.source("y.db"), "DELETE", 200);
    directory_.start();
    directory_.finish_first_upload();
    directory_.sync();
    directory_.abandon();
    before_ = read_tree(directory_.source());
    for (int i = 0; i < 20; ++i)
      write_outside(directory_.source("small" + std::to_string(i)), noise(9000, 2000 + i));
    write_outside(directory_.source("large"), noise(500'000, 5));
    std::filesystem::resize_file(directory_.source("shrinks"), 20'000);
    std::filesystem::remove(directory_.source("goes"));
    write_outside(directory_.source("new"), noise(300'000, 6));
    write_database(directory_.source("x.db"), "WAL", 100);
    write_database(directory_.source("y.db"), "DELETE", 100);
    write_database(directory_.source("z.db"), "DELETE", 100);
  }

  void compare() { EXPECT_TRUE(directory_.read_unread()); }
  std::vector<SegmentIndex> segments() {
    std::vector<SegmentIndex> found;
    const auto listing = list_replica(directory_.store);
    for (const StoredObject& segment : listing->segments)
      found.push_back(std::move(load_segment_index(directory_.store, segment)).value());
    return found;
  }
  size_t partial_points() {
    size_t count = 0;
    for (const SegmentIndex& segment : segments())
      for (const Point& point : segment.points) count += point.partial ? 1 : 0;
    return count;
  }
  uint64_t bytes_of_blocks(bool largest_partial_point) {
    uint64_t all = 0;
    uint64_t largest = 0;
    for (const SegmentIndex& segment : segments()) {
      for (const Point& point : segment.points) {
        uint64_t bytes = 0;
        for (const Change& change : point.changes)
          if (const auto* content = std::get_if<SetContent>(&change))
            bytes += content->blocks.size() * content->block_size;
        all += bytes;
        if (point.partial) largest = std::max(largest, bytes);
      }
    }
    return largest_partial_point ? largest : all;
  }
  static Tree restored_from(MemoryStore& store) {
    const ScratchDirectory scratch;
    RestoreOptions options;
    options.threads = 1;
    const auto report = restore(store, scratch.path("target"), options);
    EXPECT_TRUE(report.ok()) << report.error().message;
    return read_tree(scratch.path("target"));
  }
  Tree newest() { return restored_from(directory_.store); }
  // What the replica gives though its log ends behind each of its segments.
  std::vector<Tree> prefixes() {
    std::vector<Tree> trees;
    const auto objects = directory_.store.objects();
    const std::vector<std::string> log = directory_.store.keys("log/");
    for (size_t end = 1; end <= log.size(); ++end) {
      MemoryStore store;
      for (const auto& [key, bytes] : objects)
        if (!key.starts_with("log/")) store.set_object(key, bytes);
      for (size_t i = 0; i < end; ++i) store.set_object(log[i], objects.at(log[i]));
      trees.push_back(restored_from(store));
    }
    return trees;
  }
  static bool is(const Tree& tree, const Tree& wanted) {
    return compare_trees(wanted, tree).empty();
  }

  TrackedDirectory directory_;
  Tree before_;
};

TEST_F(TrackingParts, EveryPrefixOfTheLogIsTheStateBeforeOrTheStateAfterTheComparison) {
  const size_t at = directory_.positions().size();
  directory_.start();
  const Tree after = read_tree(directory_.source());
  compare();
  const size_t partial = partial_points();
  EXPECT_GE(partial, 20U);
  EXPECT_LE(bytes_of_blocks(/*largest_partial_point=*/true), 3 * kPart);
  EXPECT_EQ(directory_.positions().size(), at);
  directory_.sync();
  directory_.expect_all_restored();
  EXPECT_EQ(directory_.positions().size(), at + 1);
  const std::vector<Tree> trees = prefixes();
  ASSERT_GT(trees.size(), partial);
  for (size_t i = 0; i < trees.size(); ++i)
    EXPECT_TRUE(is(trees[i], i + 1 < trees.size() ? before_ : after)) << i;
  const auto verified = verify_replica(directory_.store);
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE(verified->damaged.empty()) << join_lines(verified->damaged);
}

// I2: and nothing that was sent is sent again.
TEST_F(TrackingParts, AServerOrAMachineThatDiesInBetweenLeavesTheStateBeforeAndTheNextOneGoesOn) {
  const uint64_t sent_before = bytes_of_blocks(false);
  directory_.start();
  for (int death = 0; death < 4; ++death) {
    SCOPED_TRACE(death);
    int parts = 0;
    directory_.while_comparing = [&] { directory_.stopping = ++parts == 5; };
    directory_.read_unread();
    ASSERT_TRUE(directory_.stopping);
    directory_.stopping = false;
    EXPECT_TRUE(
        directory_.uploader().wait_for(directory_.log().sealed(), std::chrono::seconds(60)));
    EXPECT_FALSE(directory_.make_last_cuts());
    EXPECT_TRUE(is(newest(), before_));
    if (death % 2 == 0) {
      directory_.die();
      directory_.resume();
    } else {
      directory_.abandon();
      directory_.start();
    }
    EXPECT_TRUE(directory_.log().partial());
  }
  directory_.while_comparing = nullptr;
  compare();
  directory_.sync();
  EXPECT_FALSE(directory_.log().partial());
  directory_.expect_all_restored();
  // The blocks that differ, once.
  uint64_t differing = 0;
  for (const auto& [path, entry] : read_tree(directory_.source()))
    if (path != "same" && path != "shrinks") differing += entry.content.size();
  EXPECT_LT(bytes_of_blocks(false) - sent_before, differing + differing / 4);
}

TEST_F(TrackingParts, ACompletePointFollowsThoughNothingIsLeftForIt) {
  directory_.start();
  compare();
  directory_.sync();
  directory_.finish();
  directory_.abandon();
  write_outside(directory_.source("large"), noise(500'000, 7));
  directory_.start();
  compare();
  // Everything that differs, the end of the file too, is in a partial point.
  const auto made = directory_.cutter().cut_part();
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(directory_.log().partial());
  directory_.sync();
  EXPECT_FALSE(directory_.log().partial());
  directory_.expect_all_restored();
}

// I1: a file that is in the middle of something is in no point, however long that takes.
TEST_F(TrackingParts, ATransactionThatIsOpenAtTheEndOfTheComparisonIsWaitedForInATornDatabase) {
  directory_.start();
  std::optional<TrackedDatabases> databases(directory_);
  databases->open("y.db");
  bool begun = false;
  directory_.while_comparing = [&] {
    if (directory_.log().partial() && !std::exchange(begun, true)) {
      databases->exec("y.db", "PRAGMA cache_size=2; PRAGMA cache_spill=2");
      databases->exec("y.db", "BEGIN; UPDATE t SET b=randomblob(900)");
    }
  };
  compare();
  ASSERT_TRUE(begun);
  SimulatedClock clock;
  for (int i = 0; i < 10; ++i) {
    clock.advance_ms(1000);
    EXPECT_FALSE(directory_.cut(/*force=*/true));
    directory_.seal();
    EXPECT_TRUE(is(newest(), before_));
  }
  databases->exec("y.db", "COMMIT");
  directory_.sync();
  databases->close_all();
  directory_.sync();
  directory_.expect_all_restored();
  databases.reset();
}

TEST_F(TrackingParts, ATornFileThatIsRemovedIsWaitedForNoMore) {
  directory_.start();
  directory_.while_comparing = [&] {
    for (const char* name : {"large", "y.db"})
      if (directory_.log().partial() && directory_.mount().exists(name))
        directory_.mount().unlink(name);
  };
  compare();
  directory_.sync();
  directory_.expect_all_restored();
}

// Two databases that are written in turn are of one instant in every point.
TEST_F(TrackingParts, WhatApplicationsDoMeanwhileIsInNoPointBeforeAllElseIs) {
  for (const uint32_t seed : seeds(6)) {
    SCOPED_TRACE(seed);
    TrackedDirectory directory({.page_cache = seed % 2 == 0, .seed = seed, .part_bytes = 8000});
    TrackedDatabases databases(directory);
    const char* modes[] = {"WAL", "DELETE"};
    const std::string pragmas[] = {
        std::string("PRAGMA page_size=1024; PRAGMA journal_mode=") + modes[seed % 2],
        std::string("PRAGMA page_size=1024; PRAGMA journal_mode=") + modes[seed / 2 % 2]};
    const char* names[] = {"x.db", "y.db"};
    for (int i = 0; i < 2; ++i) {
      databases.open(names[i], pragmas[i]);
      databases.exec(names[i], kTable);
    }
    directory.sync();
    std::mt19937 random(seed);
    const auto work = [&] {
      for (uint32_t i = random() % 4; i > 0; --i) {
        databases.exec(names[random() % 2], "INSERT INTO t(b) VALUES(randomblob(" +
                                                std::to_string(random() % 3000) + "))");
        if (random() % 6 == 0)
          databases.exec(names[random() % 2], "UPDATE t SET b=randomblob(800) WHERE a%3=0");
        if (random() % 3 == 0) directory.cut();
        if (random() % 5 == 0) directory.mount().write_back_some();
      }
    };
    size_t partial = 0;
    for (int round = 0; round < 4; ++round) {
      for (int i = 0; i < 60; ++i)
        databases.exec(names[i % 2], "INSERT INTO t(b) VALUES(randomblob(700))");
      directory.die();
      directory.resume();
      std::optional<Cut> instant;
      directory.while_comparing = [&] {
        if (directory.log().partial()) ++partial;
        work();
        // An instant from before a partial point, that comes to its cut after the comparison.
        if (random() % 3 == 0) instant = directory.take_instant();
      };
      directory.read_unread();
      if (instant) {
        directory.mount().write_back_all();
        directory.cut(*instant);
      }
      work();
      directory.cut();
    }
    EXPECT_GT(partial, 4U);
    databases.close_all();
    directory.sync();
    databases.expect_newest_restored();
    databases.expect_points_are_states();
    if (HasFailure()) return;
  }
}

// The comparison ends while a cut that has begun before it waits for a log. I1: what was found
// different is in the next point, which is made whole.
TEST(TrackingComparison, ThatEndsDuringACutIsNotPassedOver) {
  TrackedDirectory directory({.part_bytes = kPart});
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA journal_mode=WAL");
  databases.exec("x.db", kTable);
  directory.mount().put("kept", noise(9000, 1));
  directory.sync();
  databases.exec("x.db", "INSERT INTO t VALUES(1, 1)");
  const Cut before = directory.take_instant();
  ASSERT_EQ(before.heads.size(), 1U);
  databases.exec("x.db", "UPDATE t SET b = 2");
  Cut instant = directory.take_instant();
  ASSERT_EQ(instant.heads.size(), 1U);
  const uint32_t frames = instant.heads.front().frame - before.heads.front().frame;
  directory.pause();
  directory.mount().put("kept", noise(9000, 2));
  directory.resume_after_pause();
  instant = directory.take_instant();
  ASSERT_EQ(instant.heads.size(), 1U);
  instant.heads.front().frame += frames;
  bool made = false;
  std::thread cutting([&] { made = directory.cut(instant); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(directory.read_unread());
  databases.exec("x.db", "UPDATE t SET b = 3");
  cutting.join();
  EXPECT_FALSE(made);
  EXPECT_TRUE(directory.cut(true));
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed())["kept"].content, noise(9000, 2));
  databases.expect_newest_restored();
}

// What it held is not known.
TEST(TrackingComparison, AFileThatIsRemovedBeforeItIsComparedIsInNoPoint) {
  TrackedDirectory directory({.part_bytes = kPart});
  directory.mount().put("kept", noise(9000, 1));
  directory.sync();
  directory.pause();
  directory.mount().put("passing", noise(9000, 2));
  directory.resume_after_pause();
  const Cut instant = directory.take_instant();
  directory.mount().unlink("passing");
  EXPECT_TRUE(directory.read_unread());
  EXPECT_FALSE(directory.cut(instant));
  EXPECT_TRUE(directory.cut(true));
  directory.seal();
  EXPECT_FALSE(directory.restored_tree(directory.log().sealed()).contains("passing"));
}

TEST(TrackingHeads, OfADatabaseTheOneThatWasToldLastCounts) {
  std::vector<Head> heads = {{2, {1, 1}, 5}, {3, {1, 1}, 6}};
  add_heads(heads, {{2, {1, 1}, 7}, {4, {1, 1}, 8}});
  std::vector<std::pair<FileId, uint32_t>> found;
  for (const Head& head : heads) found.emplace_back(head.id, head.frame);
  EXPECT_EQ(found, (std::vector<std::pair<FileId, uint32_t>>{{3, 6}, {2, 7}, {4, 8}}));
}

}  // namespace
}  // namespace walfs::test
