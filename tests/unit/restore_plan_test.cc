#include "replicator/restore_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "replicator/restore.h"
#include "tests/support/replica_builder.h"

namespace walfs {
namespace {

using test::MemoryStore;
using test::Model;
using test::ReplicaBuilder;

// A file's bytes as the plan says, block by block in the plainest way.
Bytes materialise(const MemoryStore& store, const RoutedPlan& routed, const PlannedFile& file) {
  Bytes content(file.size);
  const auto objects = store.objects();
  for (const Extent& extent : file.extents) {
    const ChunkRef& chunk = routed.plan.chunks[extent.chunk];
    const auto bytes = decode_chunk("chunk", chunk, objects.at(chunk_key(chunk.digest)));
    for (uint64_t i = 0; i < extent.size; ++i) {
      const uint64_t at = extent.file_offset + i;
      if (at < file.size && at / file.block_size < file.base_limit) {
        content[at] = (*bytes)[extent.chunk_offset + i];
      }
    }
  }
  for (const auto& [index, place] : file.blocks) {
    const uint64_t start = index * file.block_size;
    const uint64_t space = std::min<uint64_t>(file.block_size, file.size - start);
    std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(start), space, uint8_t{0});
    if (place.hash == kZeroBlockHash) continue;
    const auto& frame = routed.indexes[place.segment].frames[place.frame];
    const Bytes& object = objects.at(segment_key(routed.route.segments[place.segment].range));
    const auto data =
        decode_frame("frame", frame, ByteView(object).subspan(frame.offset, frame.stored_size));
    for (uint64_t i = 0; i < std::min<uint64_t>(place.size, space); ++i) {
      content[start + i] = (*data)[place.offset + i];
    }
  }
  return content;
}

void expect_same(const MemoryStore& store, const RoutedPlan& routed, const Model& model) {
  RC_ASSERT(routed.plan.files.size() == model.files.size());
  for (const auto& [id, file] : model.files) {
    const auto planned = routed.plan.files.find(id);
    RC_ASSERT(planned != routed.plan.files.end());
    RC_ASSERT(planned->second.attributes == file.attributes);
    RC_ASSERT(planned->second.block_size == file.block_size);
    RC_ASSERT(planned->second.database == file.database);
    RC_ASSERT(materialise(store, routed, planned->second) == file.content);
    // I6: what the writer says of the whole is true of what the plan makes.
    if (planned->second.checksum) RC_ASSERT(*planned->second.checksum == model_checksum(file));
  }
  std::map<std::pair<FileId, std::string>, FileId> entries;
  for (const auto& [parent, names] : routed.plan.entries) {
    for (const auto& [name, child] : names) entries[{parent, name}] = child;
  }
  RC_ASSERT(entries == model.entries);
}

// Points by chance in segments by chance; a snapshot of the beginning, and another one in the
// middle.
void build(ReplicaBuilder& builder, size_t points) {
  std::vector<Position> ends = {builder.start()};
  for (size_t i = 0; i < points; ++i) {
    if (i > 0 && builder.log().below(3) == 0) {
      builder.add_partial();
    } else {
      builder.add();
    }
    if (builder.log().below(4) == 0 || i + 1 == points) {
      builder.seal();
      ends = {builder.start()};
      ends.insert(ends.end(), builder.segment_ends().begin(), builder.segment_ends().end());
    }
  }
  builder.put_snapshot(builder.start(), builder.start().next());
  const Position first = ends[builder.log().below(ends.size() - 1)];
  const uint64_t left = builder.last().value - first.value;
  const Position last{first.value + 1 + builder.log().below(left)};
  if (!builder.is_partial(last)) builder.put_snapshot(first, last);
}

TEST(RestorePlan, GivesTheStateOfAnyPointAsTheNaiveModelDoes) {  // I6, I9
  EXPECT_TRUE(rc::check([] {
    MemoryStore store;
    ReplicaBuilder builder(store, *rc::gen::arbitrary<uint32_t>());
    build(builder, *rc::gen::inRange<size_t>(1, 50));
    for (int i = 0; i < 4; ++i) {
      const uint64_t points = builder.last().value - builder.start().value;
      const Position target{builder.start().value + 1 + builder.log().below(points)};
      RestoreTarget by_position, by_time;
      by_position.position = target;
      by_time.time_ns = ReplicaBuilder::time_of(target) + 500'000'000;
      for (const RestoreTarget& wanted : {by_position, by_time}) {
        const auto routed = make_restore_plan(store, wanted);
        if (wanted.position && builder.is_partial(target)) {
          RC_ASSERT(!routed.ok() && routed.error().code == Errc::kNothingThere);
          continue;
        }
        RC_ASSERT(routed.ok());
        RC_ASSERT(routed->plan.position == builder.complete_before(target));
        expect_same(store, *routed, builder.state(routed->plan.position));
      }
    }
    const auto newest = make_restore_plan(store, {});
    const Position last = builder.complete_before(builder.last());
    RC_ASSERT(newest.ok() && newest->plan.position == last);
    expect_same(store, *newest, builder.state(last));
  }));
}

class Plan : public ::testing::Test {
 protected:
  Plan() : builder_(store_, 1) {
    for (int i = 0; i < 12; ++i) {
      builder_.add();
      if (i % 3 == 2) builder_.seal();
    }
  }
  Position at(uint64_t sequence) const { return Position::of(1, sequence); }
  static RestoreTarget position(Position wanted) { return {wanted, std::nullopt}; }
  static RestoreTarget time(int64_t wanted) { return {std::nullopt, wanted}; }

  MemoryStore store_;
  ReplicaBuilder builder_;
};

TEST_F(Plan, ForAPointBeforeTheSnapshotCanBeUsedIsRefused) {
  builder_.put_snapshot(at(3), at(5));
  for (const auto& target : {position(at(4)), time(ReplicaBuilder::time_of(at(4))), time(0)}) {
    const auto routed = make_restore_plan(store_, target);
    ASSERT_FALSE(routed.ok());
    EXPECT_EQ(routed.error().code, Errc::kNothingThere);
    EXPECT_THAT(routed.error().message, ::testing::HasSubstr(at(5).to_string()));
  }
  EXPECT_TRUE(make_restore_plan(store_, position(at(5))).ok());
}

TEST_F(Plan, ForAPositionThatWasNeverWrittenSaysWhichIsTheNewest) {
  builder_.put_snapshot(at(0), at(1));
  const auto routed = make_restore_plan(store_, position(at(13)));
  ASSERT_FALSE(routed.ok());
  EXPECT_EQ(routed.error().code, Errc::kNothingThere);
  EXPECT_THAT(routed.error().message, ::testing::HasSubstr(at(12).to_string()));
}

TEST_F(Plan, ForATimeTakesTheLastPointNotAfterIt) {
  builder_.put_snapshot(at(0), at(1));
  const auto exact = make_restore_plan(store_, time(ReplicaBuilder::time_of(at(7))));
  ASSERT_TRUE(exact.ok());
  EXPECT_EQ(exact->plan.position, at(7));
  const auto before = make_restore_plan(store_, time(ReplicaBuilder::time_of(at(7)) - 1));
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->plan.position, at(6));
}

TEST_F(Plan, UsesTheNewestSnapshotThatReachesBackFarEnough) {
  builder_.put_snapshot(at(0), at(1));
  builder_.put_snapshot(at(6), at(8));
  const auto late = make_restore_plan(store_, position(at(9)));
  ASSERT_TRUE(late.ok());
  EXPECT_EQ(late->route.snapshot.range.first, at(6));
  const auto early = make_restore_plan(store_, position(at(7)));
  ASSERT_TRUE(early.ok());
  EXPECT_EQ(early->route.snapshot.range.first, at(0));
}

TEST_F(Plan, EndsBeforePartialPointsThatNoCompleteOneFollows) {
  builder_.put_snapshot(at(0), at(1));
  for (int i = 0; i < 4; ++i) {
    builder_.add_partial();
    builder_.seal();
  }
  for (const auto& target :
       {RestoreTarget{}, position(at(12)), time(ReplicaBuilder::time_of(at(16)) + 1)}) {
    const auto routed = make_restore_plan(store_, target);
    ASSERT_TRUE(routed.ok());
    EXPECT_EQ(routed->plan.position, at(12));
    expect_same(store_, *routed, builder_.state(at(12)));
  }
  builder_.add();
  builder_.seal();
  const auto routed = make_restore_plan(store_, {});
  ASSERT_TRUE(routed.ok());
  EXPECT_EQ(routed->plan.position, at(17));
  expect_same(store_, *routed, builder_.state(at(17)));
}

TEST_F(Plan, ForAPartialPointSaysWhichPointIsBeforeIt) {
  builder_.put_snapshot(at(0), at(1));
  builder_.add_partial();
  builder_.add_partial();
  builder_.add();
  builder_.seal();
  const auto routed = make_restore_plan(store_, position(at(14)));
  ASSERT_FALSE(routed.ok());
  EXPECT_EQ(routed.error().code, Errc::kNothingThere);
  EXPECT_THAT(routed.error().message, ::testing::HasSubstr(at(12).to_string()));
  EXPECT_TRUE(make_restore_plan(store_, position(at(15))).ok());
}

TEST_F(Plan, OfASnapshotThatOnlyPartialPointsFollowIsTheSnapshot) {
  builder_.put_snapshot(at(9), at(12));
  builder_.add_partial();
  builder_.seal();
  const auto routed = make_restore_plan(store_, {});
  ASSERT_TRUE(routed.ok());
  EXPECT_EQ(routed->plan.position, at(12));
}

TEST_F(Plan, ReadsNoIndexBehindTheTargetAndNoData) {
  builder_.put_snapshot(at(0), at(1));
  store_.forget_requests();
  ASSERT_TRUE(make_restore_plan(store_, position(at(3))).ok());
  EXPECT_EQ(store_.count(test::Call::kGetRange), 3U);  // Header, trailer and index of one segment.
  EXPECT_EQ(store_.count(test::Call::kGet, "chunks/"), 0U);
}

TEST_F(Plan, OfAReplicaWithoutASnapshotIsRefused) {
  const auto routed = make_restore_plan(store_, {});
  ASSERT_FALSE(routed.ok());
  EXPECT_EQ(routed.error().code, Errc::kNothingThere);
  EXPECT_THAT(routed.error().message, ::testing::HasSubstr("first upload"));
}

// ---- Trees.

PlannedFile of_type(FileType type) {
  PlannedFile file;
  file.attributes.type = type;
  return file;
}

RestorePlan tree() {
  RestorePlan plan;
  plan.files[kRootId] = of_type(FileType::kDirectory);
  plan.files[2] = of_type(FileType::kDirectory);
  plan.files[3] = of_type(FileType::kRegular);
  plan.entries[kRootId]["dir"] = 2;
  plan.entries[2]["file"] = 3;
  plan.entries[kRootId]["link"] = 3;
  return plan;
}

TEST(PlanPaths, NameParentsBeforeChildrenAndHardLinksOnceForEachName) {
  const auto paths = plan_paths(tree());
  ASSERT_TRUE(paths.ok());
  std::vector<std::string> names;
  for (const PlannedPath& path : *paths) names.push_back(path.path);
  EXPECT_THAT(names, ::testing::ElementsAre("", "dir", "link", "dir/file"));
}

TEST(PlanPaths, OfADirectoryWithTwoNamesAreRefused) {
  RestorePlan plan = tree();
  plan.entries[kRootId]["again"] = 2;
  const auto paths = plan_paths(plan);
  ASSERT_FALSE(paths.ok());
  EXPECT_EQ(paths.error().code, Errc::kDamaged);
}

TEST(PlanPaths, OfACycleAreRefused) {
  RestorePlan plan = tree();
  plan.entries[2]["up"] = kRootId;
  EXPECT_FALSE(plan_paths(plan).ok());
  plan = tree();
  plan.entries[2]["self"] = 2;
  EXPECT_FALSE(plan_paths(plan).ok());
}

TEST(PlanPaths, OfAnEntryThatLeadsNowhereAreRefused) {
  RestorePlan plan = tree();
  plan.entries[2]["lost"] = 99;
  EXPECT_FALSE(plan_paths(plan).ok());
}

TEST(PlanPaths, WithoutARootDirectoryAreRefused) {
  RestorePlan plan = tree();
  plan.files[kRootId].attributes.type = FileType::kRegular;
  EXPECT_FALSE(plan_paths(plan).ok());
  plan.files.erase(kRootId);
  EXPECT_FALSE(plan_paths(plan).ok());
}

TEST(PlanPaths, DoNotLookIntoFilesThatAreNoDirectories) {
  RestorePlan plan = tree();
  plan.entries[3]["inside"] = 3;
  const auto paths = plan_paths(plan);
  ASSERT_TRUE(paths.ok());
  EXPECT_EQ(paths->size(), 4U);
}

}  // namespace
}  // namespace walfs
