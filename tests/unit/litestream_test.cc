// Restores from replicas of Litestream v0.3: every state byte by byte, and nothing of what is
// damaged or incomplete.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "replicator/litestream/restore.h"
#include "tests/support/litestream_replica.h"

namespace walfs::litestream {
namespace {

namespace fs = std::filesystem;
using test::LitestreamReplica;
using test::read_whole;
using ::testing::HasSubstr;

constexpr const char* kFirst = "1111111111111111";
constexpr const char* kSecond = "2222222222222222";

class LitestreamTest : public ::testing::Test {
 protected:
  std::string target() const { return scratch_.path("target"); }
  Result<RestoredDatabase> restore(std::optional<int64_t> time_ns = std::nullopt) {
    RestoreOptions options;
    options.target.time_ns = time_ns;
    options.force = true;
    return restore_database(store_, "app.db", target(), options);
  }
  void expect_state(const LitestreamReplica::State& state, std::optional<int64_t> time_ns) {
    const auto restored = restore(time_ns);
    ASSERT_TRUE(restored.ok()) << state.position << ": " << restored.error().message;
    EXPECT_EQ(restored->position, state.position);
    EXPECT_EQ(restored->time_ns, state.time_ns);
    EXPECT_EQ(restored->bytes, state.database.size());
    EXPECT_TRUE(read_whole(target() + "/app.db") == state.database) << state.position;
  }
  // Refused, and what stood there stays.
  void expect_refused(const std::string& naming, Errc code = Errc::kDamaged) {
    fs::remove_all(target());
    fs::create_directory(target());
    test::write_whole(target() + "/old", as_bytes("old"));
    const auto restored = restore();
    ASSERT_FALSE(restored.ok()) << naming;
    EXPECT_EQ(restored.error().code, code) << restored.error().message;
    EXPECT_THAT(restored.error().message, HasSubstr(naming));
    EXPECT_EQ(as_text(read_whole(target() + "/old")), "old");
    const auto entries = fs::directory_iterator(scratch_.path());
    EXPECT_EQ(std::distance(fs::begin(entries), fs::end(entries)), 1) << "something is left";
  }

  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
};

TEST_F(LitestreamTest, RestoresEveryStateOfEveryGeneration) {
  for (const int page_size : {512, 4096, 65536}) {
    test::MemoryStore store;
    LitestreamReplica replica(store, page_size);
    replica.begin_generation(kFirst);
    for (int log = 0; log < 3; ++log) {
      for (int i = 0; i < 3; ++i) {
        replica.insert(5);
        replica.sync();
      }
      replica.run("DELETE FROM t WHERE id%3=0; VACUUM");  // Becomes smaller.
      replica.sync();
      replica.restart();
      replica.insert(1);
      replica.sync();
      if (log == 1) replica.snapshot();
    }
    replica.begin_generation(kSecond, 7);
    replica.insert(20);
    replica.sync();
    for (const auto& state : replica.states) {
      const test::ScratchDirectory scratch;
      RestoreOptions options;
      options.target.time_ns = state.time_ns;
      const auto restored = restore_database(store, "app.db", scratch.path("target"), options);
      ASSERT_TRUE(restored.ok()) << state.position << ": " << restored.error().message;
      EXPECT_EQ(restored->position, state.position);
      EXPECT_TRUE(read_whole(scratch.path("target/app.db")) == state.database) << state.position;
    }
  }
}

TEST_F(LitestreamTest, TheNewestStateNeedsNoTime) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  replica.insert(3);
  replica.sync();
  expect_state(replica.states.back(), std::nullopt);
  EXPECT_EQ(store_.count(test::Call::kPut), 0U);
}

// More objects than are fetched at once, and one that is fetched in ranges.
TEST_F(LitestreamTest, ReadsManyAndLargeObjects) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  for (int i = 0; i < 150; ++i) {
    replica.insert(1);
    replica.sync();
  }
  replica.run("INSERT INTO t(v) VALUES(randomblob(20000000))");
  replica.sync();
  expect_state(replica.states.back(), std::nullopt);
  EXPECT_GE(store_.count(test::Call::kGetRange), 3U);
}

// Bytes of a frame that never became a commit are none of the database.
TEST_F(LitestreamTest, TheBeginningOfATransactionAtTheEndIsLeftOut) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  replica.insert(1);
  replica.sync();
  const auto before = replica.states.back();
  replica.run("INSERT INTO t(v) VALUES(randomblob(50000))");
  replica.sync();
  replica.change(replica.keys.back(), [](Bytes& content) { content.resize(2 * (4096 + 24)); });
  ASSERT_TRUE(restore().ok());
  EXPECT_TRUE(read_whole(target() + "/app.db") == before.database);
}

class DamagedLitestream : public LitestreamTest {
 protected:
  DamagedLitestream() : replica_(store_) {
    replica_.begin_generation(kFirst);
    for (int log = 0; log < 3; ++log) {
      for (int i = 0; i < 3; ++i) {
        replica_.insert(4);
        replica_.sync();
      }
      if (log < 2) replica_.restart();
    }
    objects_ = store_.objects();
  }
  void heal() {
    for (const auto& [key, object] : objects_) store_.set_object(key, object);
  }

  LitestreamReplica replica_;
  std::map<std::string, Bytes> objects_;
};

TEST_F(DamagedLitestream, EveryDamagedByteIsFoundAndItsObjectNamed) {
  for (const std::string& key : replica_.keys) {
    const size_t size = objects_.at(key).size();
    for (const size_t at : {size_t{0}, size_t{4}, size_t{6}, size_t{7}, size / 3, size / 2,
                            size - 10, size - 6, size - 1}) {
      store_.flip(key, at);
      expect_refused(key);
      heal();
    }
    for (const size_t left : {size_t{0}, size_t{5}, size / 2, size - 1}) {
      store_.set_object(key, Bytes(objects_.at(key).begin(),
                                   objects_.at(key).begin() + static_cast<std::ptrdiff_t>(left)));
      expect_refused(key);
      heal();
    }
    Bytes longer = objects_.at(key);
    longer.push_back(0);
    store_.set_object(key, longer);
    expect_refused(key);
    heal();
  }
  expect_state(replica_.states.back(), std::nullopt);
}

// The frames of LZ4 are right, what is in them is not.
TEST_F(DamagedLitestream, EveryFrameOfTheLogHasToBeRight) {
  for (size_t i = 1; i < replica_.keys.size(); ++i) {
    const std::string& key = replica_.keys[i];
    const size_t size = replica_.content(key).size();
    for (const size_t at : {size_t{0}, size_t{9}, size_t{17}, size_t{25}, size_t{40}, size_t{49},
                            size / 2, size - 1}) {
      replica_.change(key, [at](Bytes& content) { content[at] ^= 1; });
      expect_refused(key);
      heal();
    }
    replica_.change(key, [](Bytes& content) { content.pop_back(); });
    expect_refused(key);
    heal();
  }
}

TEST_F(DamagedLitestream, WhatIsMissingIsNoticed) {
  // Behind the object that is missing; the last of a log is followed by another log.
  for (size_t i = 0; i + 1 < replica_.keys.size(); ++i) {
    const std::string& key = replica_.keys[i];
    const std::string& next = replica_.keys[i + 1];
    const bool ends_log = next.find("_00000000.wal") != std::string::npos;
    if (i == 0 || (ends_log && i > 1)) continue;
    store_.erase_object(key);
    expect_refused(next);
    heal();
  }
  // All of an index.
  for (const std::string& key : replica_.keys) {
    if (key.find("/wal/00000001_") != std::string::npos) store_.erase_object(key);
  }
  expect_refused("/wal/00000002_00000000");
  heal();
  store_.erase_object(replica_.keys[0]);
  expect_refused(kFirst);
}

TEST_F(DamagedLitestream, PiecesThatAreNotOneLogAreRefused) {
  const std::string& first = replica_.keys[2];
  const std::string& second = replica_.keys[3];
  store_.set_object(first, objects_.at(second));
  expect_refused(first);
  heal();
  // It begins where another has not ended.
  replica_.change(first, [this, &second](Bytes& content) {
    const Bytes& more = replica_.content(second);
    content.insert(content.end(), more.begin(), more.end());
  });
  expect_refused(first);
  heal();
  // A transaction ends in the next log.
  const std::string& last = replica_.keys[4];
  ASSERT_THAT(replica_.keys[5], HasSubstr("/wal/00000001_00000000"));
  replica_.change(last, [](Bytes& content) { content.resize(content.size() - 4096 - 24); });
  expect_refused(last);
}

TEST_F(DamagedLitestream, ASnapshotHasToBeADatabaseOfThisLog) {
  const std::string& key = replica_.keys[0];
  store_.set_object(key, test::lz4(as_bytes("nothing of a database, but not short at all; really "
                                            "not: more than its header would be, at least")));
  expect_refused(key);
  test::MemoryStore other;
  LitestreamReplica small_pages(other, 512);
  small_pages.begin_generation(kFirst);
  store_.set_object(key, other.objects().at(small_pages.keys[0]));
  expect_refused(replica_.keys[1]);
}

// What no checksum covers: the log has all of it right, and the pages contradict each other.
TEST_F(LitestreamTest, SqliteHasTheLastWord) {
  LitestreamReplica replica(store_);
  replica.insert(200);
  replica.begin_generation(kFirst);
  replica.change(replica.keys[0], [](Bytes& content) {
    for (size_t page = 2; page + 1 < content.size() / 4096; page += 2)
      std::swap_ranges(content.begin() + static_cast<std::ptrdiff_t>(page * 4096),
                       content.begin() + static_cast<std::ptrdiff_t>(page * 4096 + 4096),
                       content.begin() + static_cast<std::ptrdiff_t>(page * 4096 + 4096));
  });
  expect_refused(kFirst);
}

TEST_F(LitestreamTest, EncryptedObjectsAreNamedAsSuch) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  const std::string text = "age-encryption.org/v1\n-> X25519 ...";
  store_.set_object(replica.keys[0], Bytes(text.begin(), text.end()));
  expect_refused(replica.keys[0], Errc::kUnsupported);
}

// An index on a function of the application's cannot be checked here, and is no damage.
TEST_F(LitestreamTest, SchemasThatOnlyTheApplicationUnderstandsAreRestored) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  replica.run(
      "PRAGMA writable_schema=ON; CREATE TABLE u(a); CREATE INDEX k ON u(lower(a));"
      "UPDATE sqlite_schema SET sql='CREATE INDEX k ON u(ours(a))' WHERE name='k'");
  replica.sync();
  expect_state(replica.states.back(), std::nullopt);
}

TEST_F(LitestreamTest, OptionsForReplicasOfWalfsAreRefused) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  RestoreOptions options;
  options.only = {"*.db"};
  EXPECT_EQ(restore_database(store_, "app.db", target(), options).error().code, Errc::kUsage);
  options = {};
  options.target.position = Position::of(1, 1);
  EXPECT_EQ(restore_database(store_, "app.db", target(), options).error().code, Errc::kUsage);
  EXPECT_FALSE(fs::exists(target()));
}

TEST_F(LitestreamTest, ATargetWithContentIsReplacedOnlyWhenTold) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  fs::create_directory(target());
  test::write_whole(target() + "/old", as_bytes("old"));
  EXPECT_EQ(restore_database(store_, "app.db", target(), {}).error().code, Errc::kUsage);
  EXPECT_TRUE(fs::exists(target() + "/old"));
  ASSERT_TRUE(restore().ok());
  EXPECT_FALSE(fs::exists(target() + "/old"));
}

TEST_F(LitestreamTest, AnInterruptedRestoreLeavesNothing) {
  LitestreamReplica replica(store_);
  replica.begin_generation(kFirst);
  const std::atomic<bool> cancelled{true};
  RestoreOptions options;
  options.cancelled = &cancelled;
  EXPECT_EQ(restore_database(store_, "app.db", target(), options).error().code, Errc::kCancelled);
  EXPECT_TRUE(fs::is_empty(scratch_.path()));
  store_.fail(test::Call::kGet, Errc::kRetry);
  EXPECT_EQ(restore().error().code, Errc::kRetry);
  EXPECT_TRUE(fs::is_empty(scratch_.path()));
}

}  // namespace
}  // namespace walfs::litestream
