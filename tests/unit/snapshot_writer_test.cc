#include "replicator/snapshot_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "replicator/restore.h"
#include "replicator/verify.h"
#include "tests/support/replica_builder.h"
#include "tests/support/restored_model.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

using test::Call;
using ::testing::IsEmpty;

class SnapshotWriterTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  SnapshotWriterTest() {
    add(2);
    builder_.put_snapshot(Position::of(1, 0), builder_.last());
  }
  void add(int points) {
    for (int i = 0; i < points; ++i) builder_.add();
    builder_.seal();
  }
  Result<StoredObject> write(SnapshotWriter& writer) {
    WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store_, {}));
    return writer.write(routed);
  }
  Result<StoredObject> write() {
    SnapshotWriter writer(store_, scratch_.path(), stopping_);
    return write(writer);
  }
  // All that came before the snapshot goes.
  void forget_before(const StoredObject& snapshot) {
    const auto listing = list_replica(store_);
    ASSERT_TRUE(listing.ok());
    for (const StoredObject& segment : listing->segments)
      if (segment.range.last <= snapshot.range.first)
        store_.erase_object(segment_key(segment.range, segment.level));
    for (const StoredObject& other : listing->snapshots)
      if (other.range != snapshot.range) store_.erase_object(snapshot_key(other.range));
  }
  void expect_point(Position position) {
    test::ScratchDirectory place;
    RestoreOptions options;
    options.target.position = position;
    const std::string target = place.path() + "/restored";
    const auto report = restore(store_, target, options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    expect_tree(builder_.state(position), kRootId, target);
  }
  size_t chunks() { return store_.keys("chunks/").size(); }

  std::atomic<bool> stopping_{false};
  test::ScratchDirectory scratch_;
  test::MemoryStore store_;
  test::ReplicaBuilder builder_{store_, GetParam()};
};

// I9: what a snapshot says is the state at its point, and leads to all later ones.
TEST_P(SnapshotWriterTest, LeadsToEveryPointFromItsOwnOnWithoutWhatCameBefore) {
  for (int generation = 0; generation < 4; ++generation) {
    add(1 + static_cast<int>(builder_.log().below(12)));
    const auto written = write();
    ASSERT_TRUE(written.ok()) << written.error().message;
    EXPECT_EQ(written->range.first, builder_.last());
    EXPECT_EQ(written->range.last, builder_.last());
    forget_before(*written);
    const Position begin = builder_.last();
    expect_point(begin);
    add(2);
    expect_point(begin.next());
    expect_point(builder_.last());
  }
  const auto report = verify_replica(store_);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_THAT(report->damaged, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Seeds, SnapshotWriterTest, ::testing::Range(1U, 41U));

// One large file beside small ones, so that there are several slices.
class SnapshotOfLargeFile : public SnapshotWriterTest {
 protected:
  static constexpr FileId kLarge = 2;
  static constexpr uint32_t kBlock = 4096;
  static constexpr uint64_t kSlices = 5;

  SnapshotOfLargeFile() {
    Point point;
    SetFile file;
    file.id = kLarge;
    file.attributes.mode = 0644;
    point.changes.emplace_back(file);
    point.changes.emplace_back(SetEntry{kRootId, "large", kLarge});
    content_.resize(kSlices * kChunkSizeMax - 1000);
    for (size_t i = 0; i < content_.size(); ++i)
      content_[i] = static_cast<uint8_t>(1 + (i * 2654435761U >> 7) % 250);
    point.changes.emplace_back(difference());
    add(std::move(point));
  }
  void add(Point point) {
    builder_.add(std::move(point));
    builder_.seal();
  }
  // What makes the file of the last point what `content_` is.
  SetContent difference() {
    Model& model = model_;
    SetContent change;
    change.id = kLarge;
    change.block_size = kBlock;
    change.size = content_.size();
    test::ModelFile file;
    file.block_size = kBlock;
    file.content = content_;
    const auto before = test::model_hashes(model.file);
    const auto after = test::model_hashes(file);
    for (uint64_t i = 0; i < after.size(); ++i) {
      if (i < before.size() && before[i] == after[i]) continue;
      BlockChange block;
      block.index = i;
      block.hash = after[i];
      if (after[i] != kZeroBlockHash)
        block.data =
            ByteView(content_).subspan(i * kBlock, stored_block_size(i, kBlock, content_.size()));
      change.blocks.push_back(block);
    }
    change.checksum = test::model_checksum(file);
    model.file = std::move(file);
    return change;
  }
  void change_and_add() {
    Point point;
    point.changes.emplace_back(difference());
    builder_.add(std::move(point));
    builder_.seal();
  }
  // The store takes one chunk more in each try.
  void expect_each_chunk_put_once(const std::function<Result<StoredObject>()>& try_to_write) {
    const size_t before = store_.count(Call::kPut);
    size_t failures = 0;
    while (true) {
      store_.fail(Call::kPut, Errc::kRetry, 1, 1, "chunks/");
      const auto written = try_to_write();
      store_.heal();
      if (written.ok()) break;
      EXPECT_EQ(written.error().code, Errc::kRetry);
      ASSERT_LT(++failures, 20U);
    }
    EXPECT_GE(failures, kSlices - 1);
    EXPECT_LE(store_.count(Call::kPut) - before, 2 * kSlices + 4)
        << "each once, the failures, the snapshot";
    expect_point(builder_.last());
  }
  void write_and_forget() {
    const auto written = write();
    ASSERT_TRUE(written.ok()) << written.error().message;
    forget_before(*written);
    expect_point(builder_.last());
  }

  struct Model {
    test::ModelFile file;
  } model_;
  Bytes content_;
};

TEST_P(SnapshotOfLargeFile, UploadsOnlySlicesThatHaveChanged) {
  write_and_forget();
  const size_t before = chunks();
  EXPECT_GE(before, kSlices);
  content_[2 * kChunkSizeMax + 17] ^= 0x55;
  change_and_add();
  write_and_forget();
  EXPECT_EQ(chunks(), before + 1);
}

TEST_P(SnapshotOfLargeFile, UploadsNoChunkIfOnlyNamesHaveChanged) {
  write_and_forget();
  const size_t before = chunks();
  Point point;
  point.changes.emplace_back(SetEntry{kRootId, "second name", kLarge});
  add(std::move(point));
  write_and_forget();
  EXPECT_EQ(chunks(), before);
}

TEST_P(SnapshotOfLargeFile, WritesZerosThatReplaceContentAndKeepsHoles) {
  write_and_forget();
  std::fill_n(content_.begin() + kChunkSizeMax + 4096, 8192, uint8_t{0});
  std::fill_n(content_.begin() + 3 * kChunkSizeMax, kChunkSizeMax, uint8_t{0});
  change_and_add();
  const size_t before = chunks();
  write_and_forget();
  EXPECT_EQ(chunks(), before + 1) << "the slice that is all zeros needs none";
}

TEST_P(SnapshotOfLargeFile, FollowsAFileThatShrinksAndGrowsAgain) {
  write_and_forget();
  content_.resize(kChunkSizeMax + 5000);
  change_and_add();
  content_.resize(3 * kChunkSizeMax + 5000);
  content_.back() = 7;
  change_and_add();
  write_and_forget();
}

// After a failure it goes on where it was.
TEST_P(SnapshotOfLargeFile, PutsNoChunkTwiceWhereverTheStoreFails) {
  SnapshotWriter writer(store_, scratch_.path(), stopping_);
  expect_each_chunk_put_once([&] { return write(writer); });
}

// Each process gets one chunk farther than the one before.
TEST_P(SnapshotOfLargeFile, PutsNoChunkTwiceWhereverAProcessDies) {
  store_.tell_times();
  expect_each_chunk_put_once([&] { return write(); });
}

// It may be going, for whoever removes what has been superfluous for long.
TEST_P(SnapshotOfLargeFile, PutsAChunkAgainThatHasBeenThereForLong) {
  store_.tell_times();
  store_.fail(Call::kPut, Errc::kRetry, 1, 1, "chunks/");
  ASSERT_FALSE(write().ok());
  store_.heal();
  const auto chunks = store_.keys("chunks/");
  ASSERT_FALSE(chunks.empty());
  const int64_t long_ago = now_ns() - 24 * 3600 * kNsPerSecond;
  for (const std::string& chunk : chunks) store_.set_time(chunk, long_ago);
  const size_t before = store_.count(Call::kPut);
  ASSERT_TRUE(write().ok());
  EXPECT_GE(store_.count(Call::kPut) - before, kSlices + 1);
}

TEST_P(SnapshotOfLargeFile, StopsWhenItIsAskedToAndLeavesTheReplicaAsItWas) {
  stopping_ = true;
  const auto written = write();
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, Errc::kCancelled);
  EXPECT_EQ(store_.keys("snapshots/").size(), 1U);
  expect_point(builder_.last());
}

TEST_P(SnapshotOfLargeFile, RefusesDamagedContent) {
  const std::string segment = store_.keys("log/").back();
  Bytes object = store_.objects().at(segment);
  object[100] ^= 1;
  store_.set_object(segment, object);
  const auto written = write();
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, Errc::kDamaged);
  EXPECT_EQ(store_.keys("snapshots/").size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SnapshotOfLargeFile, ::testing::Values(3U));

}  // namespace
}  // namespace walfs
