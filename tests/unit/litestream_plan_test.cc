// Names, generations, and what a replica of Litestream v0.3 says of the past.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/litestream/listing.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/plan.h"
#include "tests/support/memory_store.h"

namespace walfs::litestream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kSecond = 1'000'000'000;
constexpr const char* kFirst = "00000000000000aa";
constexpr const char* kSecondName = "00000000000000bb";

TEST(LitestreamNames, AreReadAsLitestreamWritesThem) {
  const std::string generation = "generations/0123456789abcdef/";
  auto name = parse_object_name(generation + "snapshots/0000001f.snapshot.lz4");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->generation, "0123456789abcdef");
  EXPECT_TRUE(name->is_snapshot);
  EXPECT_EQ(name->index, 0x1fU);
  name = parse_object_name(generation + "wal/ffffffff_00001038.wal.lz4");
  ASSERT_TRUE(name);
  EXPECT_FALSE(name->is_snapshot);
  EXPECT_EQ(name->index, 0xffffffffU);
  EXPECT_EQ(name->offset, 0x1038U);
  EXPECT_EQ(parse_object_name(generation + "wal/00000000_123456789.wal.lz4")->offset, 0x123456789U);
  for (const char* wrong :
       {"", "snapshots/0000001f.snapshot.lz4.tmp", "snapshots/0000001F.snapshot.lz4",
        "snapshots/1f.snapshot.lz4", "wal/00000000.wal.lz4", "wal/00000000_1038.wal.lz4",
        "wal/00000000_00001038.wal", "wal/00000000_00001038.snapshot.lz4",
        "wal/00000000_12345678901234567.wal.lz4", "other/0000001f.snapshot.lz4"}) {
    EXPECT_FALSE(parse_object_name(generation + wrong)) << wrong;
  }
  EXPECT_FALSE(parse_object_name("generations/0123456789abcde/snapshots/00000000.snapshot.lz4"));
  EXPECT_FALSE(parse_object_name("x/0123456789abcdef/snapshots/00000000.snapshot.lz4"));
}

TEST(LitestreamNames, OfTheNextVersionAreReadInDirectoriesAndInS3) {
  for (const char* level : {"ltx/7/", "0007/"}) {
    const auto name = parse_ltx_name(std::string(level) + "0000000000000002-00000000000000ff.ltx");
    ASSERT_TRUE(name);
    EXPECT_EQ(name->level, 7U);
    EXPECT_EQ(name->first, 2U);
    EXPECT_EQ(name->last, 0xffU);
  }
  EXPECT_FALSE(parse_ltx_name("ltx/0000000000000001-0000000000000001.ltx"));
  EXPECT_FALSE(parse_ltx_name("000a/0000000000000001-00000000000000ff.ltx"));
  EXPECT_FALSE(parse_ltx_name("0009/0000000000000001-00000000000000ff.ltx.tmp"));
  EXPECT_FALSE(parse_ltx_name("0009/0000000000000002-0000000000000001.ltx"));
  EXPECT_FALSE(parse_ltx_name("0009/0000000000000000-0000000000000001.ltx"));
  EXPECT_FALSE(parse_ltx_name("0009/1-2.ltx"));
}

TEST(LitestreamNames, TheDatabaseIsCalledAsTheReplica) {
  EXPECT_EQ(database_name("file:///backup/app.db"), "app.db");
  EXPECT_EQ(database_name("s3://bucket/some/app.sqlite3?region=x"), "app.sqlite3");
  EXPECT_EQ(database_name("s3://bucket?region=x"), "database.db");
  EXPECT_EQ(database_name("file:///backup/.."), "database.db");
  EXPECT_EQ(database_name("file:///backup/a\nb"), "database.db");
  EXPECT_EQ(database_name("file:///backup/" + std::string(250, 'x')), "database.db");
}

Object snapshot(const std::string& generation, uint32_t index, int64_t seconds) {
  return {"generations/" + position_text(generation, index), 1, seconds * kSecond, index, 0};
}

Object piece(const std::string& generation, uint32_t index, uint64_t offset, int64_t seconds) {
  return {"generations/" + position_text(generation, index, offset), 1, seconds * kSecond, index,
          offset};
}

Generation first_generation() {
  return {kFirst,
          {snapshot(kFirst, 0, 10), snapshot(kFirst, 2, 60)},
          {piece(kFirst, 0, 0, 20), piece(kFirst, 0, 0x100, 30), piece(kFirst, 1, 0, 40),
           piece(kFirst, 2, 0, 50), piece(kFirst, 2, 0x200, 70)}};
}

Generation second_generation() {
  return {kSecondName, {snapshot(kSecondName, 5, 100)}, {piece(kSecondName, 5, 0, 110)}};
}

std::string position_at(const std::vector<Generation>& generations,
                        std::optional<int64_t> seconds) {
  std::optional<int64_t> time;
  if (seconds) time = *seconds * kSecond;
  const auto plan = make_plan(generations, time);
  return plan.ok() ? plan->position : plan.error().message;
}

TEST(LitestreamPlan, TakesTheGenerationAndTheSnapshotThatAreNewest) {
  const std::vector<Generation> both{second_generation(), first_generation()};
  const auto plan = make_plan(both, std::nullopt);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->position, position_text(kSecondName, 5, 0));
  EXPECT_EQ(plan->time_ns, 110 * kSecond);
  const auto older = make_plan({first_generation()}, std::nullopt);
  ASSERT_TRUE(older.ok());
  EXPECT_EQ(older->snapshot.index, 2U);
  EXPECT_EQ(older->pieces.size(), 2U);
}

TEST(LitestreamPlan, AtATimeIsTheNewestStateThatIsNotAfterIt) {
  const std::vector<Generation> both{first_generation(), second_generation()};
  EXPECT_EQ(position_at(both, 20), position_text(kFirst, 0, 0));
  EXPECT_EQ(position_at(both, 39), position_text(kFirst, 0, 0x100));
  EXPECT_EQ(position_at(both, 40), position_text(kFirst, 1, 0));
  EXPECT_EQ(position_at(both, 75), position_text(kFirst, 2, 0x200));
  EXPECT_EQ(position_at(both, 99), position_text(kFirst, 2, 0x200));
  EXPECT_EQ(position_at(both, 1000), position_text(kSecondName, 5, 0));
  const auto none = make_plan(both, 19 * kSecond);
  EXPECT_EQ(none.error().code, Errc::kNothingThere);
  EXPECT_THAT(none.error().message, HasSubstr("oldest state is of 1970-01-01T00:00:20"));
}

// The copy of a database that is being written to is one state only with the log behind it.
TEST(LitestreamPlan, TakesAnEarlierSnapshotUntilTheLogHasCaughtUp) {
  const auto at = [](int64_t seconds) {
    return make_plan({first_generation()}, seconds * kSecond)->snapshot.index;
  };
  EXPECT_EQ(at(59), 0U);
  EXPECT_EQ(at(69), 0U);
  EXPECT_EQ(at(70), 2U);
  // A new generation begins with its first piece of log.
  const std::vector<Generation> both{first_generation(), second_generation()};
  EXPECT_EQ(position_at(both, 109), position_text(kFirst, 2, 0x200));
  // Where nothing follows it is whole.
  Generation alone{kFirst, {snapshot(kFirst, 0, 10)}, {}};
  EXPECT_EQ(position_at({alone}, 10), position_text(kFirst, 0));
}

TEST(LitestreamPlan, NamesWhatIsNextToAGap) {
  Generation generation = first_generation();
  generation.snapshots.pop_back();
  Generation damaged = generation;
  std::erase_if(damaged.pieces, [](const Object& object) { return object.index == 1; });
  auto plan = make_plan({damaged}, std::nullopt);
  EXPECT_EQ(plan.error().code, Errc::kDamaged);
  EXPECT_THAT(plan.error().message, HasSubstr(damaged.pieces[2].key));
  EXPECT_THAT(plan.error().message, HasSubstr("index 00000001"));
  // Before the gap there are states, and none behind it.
  EXPECT_EQ(position_at({damaged}, 45), position_text(kFirst, 0, 0x100));
  EXPECT_EQ(list_states({damaged}).size(), 2U);

  damaged = generation;
  damaged.pieces.erase(damaged.pieces.begin());
  plan = make_plan({damaged}, std::nullopt);
  EXPECT_EQ(plan.error().code, Errc::kDamaged);
  EXPECT_THAT(plan.error().message, HasSubstr(damaged.pieces[0].key));

  damaged = generation;
  damaged.snapshots.clear();
  EXPECT_EQ(make_plan({damaged}, std::nullopt).error().code, Errc::kDamaged);
}

TEST(LitestreamPlan, WithoutTimesOnlyTheNewestCanBeHad) {
  Generation generation = first_generation();
  for (Object& object : generation.pieces) object.time_ns = 0;
  EXPECT_EQ(position_at({generation}, std::nullopt), position_text(kFirst, 2, 0x200));
  EXPECT_EQ(make_plan({generation}, kSecond).error().code, Errc::kUnsupported);
}

TEST(LitestreamHistory, EachStateIsHadAtItsTime) {
  const std::vector<Generation> both{second_generation(), first_generation()};
  std::vector<std::string> positions;
  for (const PastState& state : list_states(both)) {
    positions.push_back(state.position);
    EXPECT_EQ(make_plan(both, state.time_ns)->position, state.position);
    EXPECT_EQ(make_plan(both, state.time_ns)->time_ns, state.time_ns);
  }
  EXPECT_THAT(positions,
              ElementsAre(position_text(kFirst, 0, 0), position_text(kFirst, 0, 0x100),
                          position_text(kFirst, 1, 0), position_text(kFirst, 2, 0),
                          position_text(kFirst, 2, 0x200), position_text(kSecondName, 5, 0)));
}

TEST(LitestreamHistory, OfSeveralAtOneTimeTheLastIsThere) {
  Generation generation = first_generation();
  generation.pieces[1].time_ns = generation.pieces[0].time_ns;
  EXPECT_EQ(list_states({generation}).front().position, position_text(kFirst, 0, 0x100));
}

TEST(LitestreamListing, SortsByNumbersAndPassesOverOtherNames) {
  test::MemoryStore store;
  const std::string generation = "generations/0123456789abcdef/";
  for (const char* name : {"wal/00000000_100000000.wal.lz4", "wal/00000000_20000000.wal.lz4",
                           "wal/00000000_00000000.wal.lz4.tmp", "snapshots/00000000.snapshot.lz4"})
    store.set_object(generation + name, Bytes(7));
  store.set_object("generations/x/wal/00000000_00000000.wal.lz4", Bytes(1));
  store.set_time(generation + "snapshots/00000000.snapshot.lz4", 1);
  const auto generations = list_generations(store);
  ASSERT_TRUE(generations.ok());
  ASSERT_EQ(generations->size(), 1U);
  const Generation& found = generations->front();
  ASSERT_EQ(found.pieces.size(), 2U);
  EXPECT_EQ(found.pieces[0].offset, 0x20000000U);
  EXPECT_EQ(found.pieces[1].offset, 0x100000000U);
  EXPECT_EQ(found.pieces[1].size, 7U);
  EXPECT_EQ(found.snapshots.at(0).time_ns, 1'000'000);
}

TEST(LitestreamListing, TellsWhatAReplicaIs) {
  test::MemoryStore store;
  auto kind = recognise_replica(store);
  EXPECT_EQ(kind.error().code, Errc::kNothingThere);
  EXPECT_THAT(kind.error().message, HasSubstr("Litestream"));
  store.set_object("generations/0123456789abcdef/snapshots/00000000.snapshot.lz4", Bytes(1));
  EXPECT_EQ(recognise_replica(store).value(), ReplicaKind::kLitestream);
  store.set_object("volume.json", Bytes(1));
  EXPECT_EQ(recognise_replica(store).value(), ReplicaKind::kWalfs);
}

}  // namespace
}  // namespace walfs::litestream
