// Restores from replicas of Litestream v0.5.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/litestream/crc64.h"
#include "replicator/litestream/listing.h"
#include "replicator/litestream/ltx_stream.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/restore.h"
#include "tests/support/ltx_file.h"

namespace walfs::litestream {
namespace {

namespace fs = std::filesystem;
using test::LtxFile;
using test::read_whole;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kPageSize = 512;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kBegin = 1'700'000'000;

TEST(Crc64, IsThatOfIso3309) {
  EXPECT_EQ(crc64_iso(0, as_bytes("123456789")), 0xb90956c775a41001U);
  EXPECT_EQ(crc64_iso(crc64_iso(0, as_bytes("1234")), as_bytes("56789")), 0xb90956c775a41001U);
  EXPECT_EQ(crc64_iso(0, {}), 0U);
}

// A database whose transactions are LTX files, in level 0; what each of them leaves is known.
class LtxTest : public ::testing::Test {
 protected:
  LtxTest() {
    sqlite3_open(scratch_.path("db").c_str(), &database_);
    run("PRAGMA page_size=512; PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    states_.emplace_back();
  }
  ~LtxTest() override { sqlite3_close(database_); }

  void run(const std::string& sql) {
    ASSERT_EQ(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database_);
  }
  void transact(int count) {
    for (int i = 0; i < count; ++i) {
      run(states_.size() % 5 == 0
              ? "DELETE FROM t WHERE id%3=0; VACUUM"
              : "INSERT INTO t(v) VALUES(randomblob(900)),(randomblob(900)),(randomblob(900))");
      states_.push_back(read_whole(scratch_.path("db")));
    }
  }
  uint64_t last() const { return states_.size() - 1; }
  static int64_t time_of(uint64_t transaction) {
    return (kBegin + static_cast<int64_t>(transaction)) * kSecond;
  }

  // The file that takes the state before `first` to that after `to`.
  LtxFile file(uint64_t first, uint64_t to) const {
    LtxFile made;
    made.pages = static_cast<uint32_t>(states_[to].size() / kPageSize);
    made.first = first;
    made.last = to;
    made.time_ms = time_of(to) / 1'000'000;
    for (uint32_t page = 1; page <= made.pages; ++page) {
      const Bytes now = page_of(states_[to], page);
      if (first == 1 || now != page_of(states_[first - 1], page)) made.content[page] = now;
    }
    return made;
  }
  static Bytes page_of(const Bytes& state, uint32_t page) {
    const size_t begin = size_t{page - 1} * kPageSize;
    if (begin >= state.size()) return {};
    return Bytes(state.begin() + static_cast<std::ptrdiff_t>(begin),
                 state.begin() + static_cast<std::ptrdiff_t>(begin + kPageSize));
  }
  static std::string key(uint32_t level, uint64_t first, uint64_t to) {
    return "000" + std::to_string(level) + "/" + txid_text(first) + "-" + txid_text(to) + ".ltx";
  }
  std::string put(uint32_t level, uint64_t first, uint64_t to) {
    store_.set_object(key(level, first, to), file(first, to).bytes());
    return key(level, first, to);
  }

  Result<RestoredDatabase> restore(std::optional<int64_t> time_ns = std::nullopt) {
    RestoreOptions options;
    options.target.time_ns = time_ns;
    options.force = true;
    return restore_database(store_, "app.db", scratch_.path("target"), options);
  }
  void expect_state(uint64_t transaction, std::optional<int64_t> time_ns = std::nullopt) {
    const auto restored = restore(time_ns);
    ASSERT_TRUE(restored.ok()) << restored.error().message;
    EXPECT_EQ(restored->position, txid_text(transaction));
    EXPECT_EQ(restored->time_ns, time_of(transaction));
    EXPECT_TRUE(read_whole(scratch_.path("target/app.db")) == states_[transaction]);
  }
  void expect_refused(const std::string& naming) {
    fs::remove_all(scratch_.path("target"));
    const auto restored = restore();
    ASSERT_FALSE(restored.ok()) << naming;
    EXPECT_EQ(restored.error().code, Errc::kDamaged) << restored.error().message;
    EXPECT_THAT(restored.error().message, HasSubstr(naming));
    EXPECT_FALSE(fs::exists(scratch_.path("target")));
  }

  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
  sqlite3* database_ = nullptr;
  std::vector<Bytes> states_;  // After each transaction, from 1.
};

TEST_F(LtxTest, EveryTransactionIsRestoredByItsTime) {
  transact(12);
  for (uint64_t i = 1; i <= last(); ++i) put(0, i, i);
  EXPECT_EQ(recognise_replica(store_).value(), ReplicaKind::kLitestream);
  expect_state(12);
  for (uint64_t i = 1; i <= last(); ++i) expect_state(i, time_of(i));
  expect_state(5, time_of(6) - 1);
  EXPECT_EQ(restore(time_of(1) - 1).error().code, Errc::kNothingThere);
  const auto states = read_states(store_);
  ASSERT_TRUE(states.ok());
  ASSERT_EQ(states->size(), 12U);
  EXPECT_EQ(states->at(3).position, txid_text(4));
  EXPECT_EQ(states->at(3).time_ns, time_of(4));
}

// Small files are gone when they were merged, and snapshots save the way.
TEST_F(LtxTest, TakesTheFilesThatReachFurthest) {
  transact(14);
  put(9, 1, 4);
  const std::string unneeded = put(2, 2, 3);
  put(1, 5, 8);
  put(2, 3, 9);
  put(0, 10, 10);
  put(1, 9, 12);
  put(0, 12, 12);
  put(0, 13, 13);
  put(0, 14, 14);
  expect_state(14);
  EXPECT_EQ(store_.count(test::Call::kGet, unneeded), 0U);
  expect_state(13, time_of(13));
  expect_state(9, time_of(9));
  expect_state(8, time_of(8));
  expect_state(4, time_of(7));
  std::vector<std::string> positions;
  const auto states = read_states(store_);
  ASSERT_TRUE(states.ok());
  for (const PastState& state : *states) positions.push_back(state.position);
  EXPECT_THAT(positions, ElementsAre(txid_text(4), txid_text(8), txid_text(9), txid_text(10),
                                     txid_text(12), txid_text(13), txid_text(14)));
}

TEST_F(LtxTest, PagesInFramesAndChecksumsOfTheDatabaseAreRead) {
  transact(3);
  LtxFile all = file(1, 2);
  all.frames = true;
  all.checksums = true;
  store_.set_object(key(9, 1, 2), all.bytes());
  LtxFile next = file(3, 3);
  next.frames = true;
  store_.set_object("ltx/0/" + key(0, 3, 3).substr(5), next.bytes());
  expect_state(3);
}

TEST_F(LtxTest, EveryDamagedByteIsFoundAndItsFileNamed) {
  transact(6);
  for (const bool frames : {false, true}) {
    LtxFile all = file(1, 5);
    all.frames = frames;
    all.checksums = frames;
    LtxFile next = file(6, 6);
    next.frames = frames;
    for (const auto& [name, object] :
         {std::pair{key(9, 1, 5), all.bytes()}, std::pair{key(0, 6, 6), next.bytes()}}) {
      store_.set_object(key(9, 1, 5), all.bytes());
      store_.set_object(key(0, 6, 6), next.bytes());
      for (size_t at = 0; at < object.size(); at += 1 + at / 16) {
        store_.flip(name, at);
        expect_refused(name);
        store_.flip(name, at);
      }
      for (const size_t left :
           {size_t{0}, size_t{50}, size_t{100}, object.size() / 2, object.size() - 1}) {
        store_.set_object(
            name, Bytes(object.begin(), object.begin() + static_cast<std::ptrdiff_t>(left)));
        expect_refused(name);
      }
      Bytes longer = object;
      longer.push_back(0);
      store_.set_object(name, longer);
      expect_refused(name);
    }
  }
}

TEST_F(LtxTest, WhatIsMissingIsNoticed) {
  transact(6);
  put(9, 1, 2);
  put(0, 3, 3);
  const std::string behind = put(0, 5, 5);
  expect_refused(behind);
  put(0, 4, 4);
  expect_state(5);
  store_.erase_object(key(9, 1, 2));
  expect_refused(key(0, 3, 3));
  // A snapshot without one of its pages.
  LtxFile all = file(1, 6);
  all.content.erase(3);
  store_.set_object(key(9, 1, 6), all.bytes());
  expect_refused(key(9, 1, 6));
  // A file under the name of another.
  store_.set_object(key(9, 1, 6), file(1, 5).bytes());
  expect_refused(key(9, 1, 6));
}

// What Litestream v0.5.17 itself has written (its VFS, in three processes of one transaction each).
TEST_F(LtxTest, ARealReplicaIsRestored) {
  const auto store =
      open_store("file://" + std::string(WALFS_TEST_DATA) + "/litestream-0.5", {}, false);
  ASSERT_TRUE(store.ok()) << store.error().message;
  const auto states = read_states(**store);
  ASSERT_TRUE(states.ok() && states->size() == 3) << states.error().message;
  const std::vector<std::string> expected{"500 125250", "1000 375750", "1500 751500"};
  for (size_t i = 0; i < 3; ++i) {
    RestoreOptions options;
    options.target.time_ns = states->at(i).time_ns;
    options.force = true;
    const auto restored = restore_database(**store, "app.db", scratch_.path("target"), options);
    ASSERT_TRUE(restored.ok()) << restored.error().message;
    EXPECT_EQ(restored->position, txid_text(i + 1));
    run("ATTACH '" + scratch_.path("target/app.db") + "' AS restored");
    std::string found;
    const auto keep = [](void* out, int, char** values, char**) {
      *static_cast<std::string*>(out) = values[0];
      return 0;
    };
    sqlite3_exec(database_, "SELECT count(*) || ' ' || CAST(sum(v) AS INTEGER) FROM restored.t",
                 keep, &found, nullptr);
    EXPECT_EQ(found, expected[i]);
    run("DETACH restored");
  }
}

// Litestream v0.5 goes on beside what v0.3 has written.
TEST_F(LtxTest, TheNewerOfBothFormatsIsRestored) {
  test::LitestreamReplica older(store_);
  older.begin_generation("1111111111111111");
  const auto& before = older.states.back();
  transact(2);
  const std::string object = put(0, 1, 2);
  store_.set_time(object, time_of(2));
  const auto restored = restore();
  ASSERT_TRUE(restored.ok()) << restored.error().message;
  EXPECT_EQ(restored->position, before.time_ns > time_of(2) ? before.position : txid_text(2));
  const auto at = restore(time_of(2));
  ASSERT_TRUE(at.ok()) << at.error().message;
  EXPECT_EQ(at->position, txid_text(2));
  EXPECT_EQ(read_states(store_)->size(), 2U);
}

}  // namespace
}  // namespace walfs::litestream
