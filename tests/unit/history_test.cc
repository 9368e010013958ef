#include "replicator/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class HistoryTest : public ::testing::Test {
 protected:
  static Position at(uint64_t sequence) { return Position::of(1, sequence); }
  void fill() {
    for (int i = 0; i < 30; ++i) {
      builder_.add();
      if (i % 5 == 4) builder_.seal();
    }
    builder_.put_snapshot(at(0), at(2));
    builder_.put_snapshot(at(10), at(13));
  }
  History history() {
    auto history = read_history(store_);
    EXPECT_TRUE(history.ok()) << history.error().message;
    return history.ok() ? *history : History();
  }
  SetContent content(FileId id, size_t size, bool database) {
    SetContent change = builder_.log().difference(id, Bytes(size, 'x'), 1024);
    change.database = database;
    return change;
  }

  test::MemoryStore store_;
  test::ReplicaBuilder builder_{store_, 5};
};

TEST_F(HistoryTest, ListsEveryPointThatCanBeRestoredOnceAndInOrder) {
  fill();
  const History found = history();
  ASSERT_EQ(found.points.size(), 29U);
  for (size_t i = 0; i < found.points.size(); ++i) {
    EXPECT_EQ(found.points[i].position, at(i + 2));
    EXPECT_EQ(found.points[i].time_ns, test::ReplicaBuilder::time_of(at(i + 2)));
  }
  EXPECT_EQ(found.segments, 6U);
  EXPECT_EQ(found.snapshots, 2U);
  EXPECT_THAT(found.lost, IsEmpty());
  uint64_t bytes = 0;
  for (const auto& [key, object] : store_.objects())
    if (key.starts_with(kLogPrefix) || key.starts_with(kSnapshotPrefix)) bytes += object.size();
  EXPECT_EQ(found.bytes, bytes);
}

TEST_F(HistoryTest, LeavesOutPartialPointsAndCountsWhatTheyHave) {
  fill();
  builder_.add_partial();
  builder_.seal();
  builder_.add();
  builder_.add_partial();
  builder_.seal();
  const History found = history();
  EXPECT_EQ(found.points.size(), 30U);
  EXPECT_EQ(found.points.back().position, at(32));
}

TEST_F(HistoryTest, TellsWhatEachPointHasChanged) {
  Attributes attributes;
  Point first, part, second, third;
  first.changes = {SetFile{100, attributes},         SetFile{101, attributes},
                   SetEntry{kRootId, "app.db", 100}, SetEntry{kRootId, "text", 101},
                   content(100, 3000, true),         content(101, 1000, false)};
  part.changes = {content(100, 5000, true)};
  part.partial = true;
  second.changes = {content(101, 2000, false)};
  third.changes = {SetEntry{kRootId, "text", kNoFile}, DropFile{101}};
  for (const Point& point : {first, part, second, third}) builder_.add(point);
  builder_.seal();
  builder_.put_snapshot(at(0), at(1));
  const History found = history();
  ASSERT_EQ(found.points.size(), 3U);
  EXPECT_EQ(found.points[0].bytes, 4000U);
  EXPECT_EQ(found.points[0].databases, 1U);
  EXPECT_EQ(found.points[0].files, 1U);
  EXPECT_GE(found.points[1].bytes, 2000U + 1000U) << "the partial point's, too";
  EXPECT_EQ(found.points[1].databases, 1U);
  EXPECT_EQ(found.points[1].files, 1U);
  EXPECT_EQ(found.points[2].bytes, 0U);
  EXPECT_EQ(found.points[2].files, 1U);
}

// What was left of an epoch without a complete point at its end is no part of the next one.
TEST_F(HistoryTest, CountsNothingOfAnotherEpoch) {
  Attributes attributes;
  Point part;
  part.changes = {SetFile{100, attributes}, SetEntry{kRootId, "app.db", 100},
                  content(100, 50000, true)};
  part.partial = true;
  builder_.add();
  builder_.add();
  builder_.add(part);
  builder_.seal();
  builder_.put_snapshot(at(0), at(1));
  ASSERT_TRUE(claim_epoch(store_, test::make_epoch(2, at(2), /*fresh=*/true)).ok());
  Point other;
  other.position = Position::of(2, 4);
  store_.set_object(segment_key({other.position, other.position}), test::make_segment({other}));
  Snapshot snapshot = builder_.make_snapshot(at(1), at(1));
  snapshot.range = {Position::of(2, 3), Position::of(2, 4)};
  store_.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  const History found = history();
  ASSERT_FALSE(found.points.empty());
  EXPECT_EQ(found.points.back().position, other.position);
  EXPECT_EQ(found.points.back().bytes, 0U);
}

TEST_F(HistoryTest, NamesThePointsBehindAGap) {
  fill();
  store_.erase_object(segment_key({at(21), at(25)}));
  const History found = history();
  EXPECT_EQ(found.points.back().position, at(20));
  EXPECT_THAT(found.lost, ElementsAre(PositionRange{at(26), at(30)}));
}

}  // namespace
}  // namespace walfs
