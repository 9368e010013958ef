#include "replicator/point_merger.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/log_model.h"

namespace walfs {
namespace {

using test::Model;
using test::RandomLog;

// Points by chance and what is merged of them, with the bytes where segments would have them.
class MergedLog {
 public:
  explicit MergedLog(uint32_t seed, uint64_t bytes_max = 1'000'000'000)
      : log_(seed), merger_(bytes_max) {}

  RandomLog& log() { return log_; }
  const Model& merged() const { return merged_; }

  void add() { add(log_.next()); }
  void add(Point point) {
    point.position = Position::of(1, ++count_);
    point.time_ns = static_cast<int64_t>(count_);
    const auto number = static_cast<uint32_t>(segments_.size());
    Bytes& data = segments_.emplace_back();
    for (Change& change : point.changes) {
      auto* content = std::get_if<SetContent>(&change);
      if (content == nullptr) continue;
      for (BlockChange& block : content->blocks) {
        block.data_offset = data.size();
        data.insert(data.end(), block.data.begin(), block.data.end());
        block.data = {};
      }
    }
    if (!merger_.add(point, number)) {
      take();
      EXPECT_TRUE(merger_.add(point, number)) << "alone it has to be taken";
    }
  }
  // Of eight blocks, under the id 7.
  void add_file() {
    Point made;
    made.changes = {SetFile{7, {}}, SetEntry{kRootId, "file", 7},
                    log_.difference(7, Bytes(4096, 'a'), 512)};
    add(std::move(made));
  }
  // Applies what was put together to what is merged so far.
  void take() {
    if (merger_.empty()) return;
    MergedPoint merged = merger_.take();
    std::deque<Bytes> buffers;
    auto source = merged.sources.begin();
    for (Change& change : merged.point.changes) {
      auto* content = std::get_if<SetContent>(&change);
      if (content == nullptr) continue;
      for (size_t i = 1; i < content->blocks.size(); ++i)
        EXPECT_LT(content->blocks[i - 1].index, content->blocks[i].index);
      for (BlockChange& block : content->blocks)
        if (block.hash != kZeroBlockHash)
          block.data = bytes_of(*content, block, *source++, buffers);
    }
    EXPECT_EQ(source, merged.sources.end());
    merged_.apply(merged.point);
    ++points_;
    last_ = merged.point;
  }
  int points() const { return points_; }
  const Point& last() const { return last_; }

  void expect_same() const {
    ASSERT_EQ(merged_.entries, log_.state().entries);
    ASSERT_EQ(merged_.files.size(), log_.state().files.size());
    for (const auto& [id, file] : log_.state().files) {
      const auto found = merged_.files.find(id);
      ASSERT_NE(found, merged_.files.end()) << id;
      EXPECT_TRUE(id == kRootId || found->second.attributes == file.attributes) << id;
      EXPECT_EQ(found->second.content, file.content) << id;
      EXPECT_EQ(found->second.block_size, file.block_size) << id;
      EXPECT_EQ(found->second.database, file.database) << id;
    }
  }

 private:
  ByteView bytes_of(const SetContent& content, const BlockChange& block, const BlockSource& source,
                    std::deque<Bytes>& buffers) const {
    const uint64_t size = stored_block_size(block.index, content.block_size, content.size);
    const Bytes& data = segments_.at(source.segment);
    Bytes& bytes = buffers.emplace_back();
    const auto begin = data.begin() + static_cast<std::ptrdiff_t>(source.data_offset);
    bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min<uint64_t>(source.size, size)));
    bytes.resize(size);
    EXPECT_EQ(block_hash(block.index, bytes, content.block_size), block.hash);
    return bytes;
  }

  RandomLog log_;
  PointMerger merger_;
  std::deque<Bytes> segments_;
  Model merged_{{{kRootId, {}}}, {}};
  uint64_t count_ = 0;
  int points_ = 0;
  Point last_;
};

TEST(PointMerger, LeadsFromTheStateBeforeTheFirstPointToThatOfTheLast) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    MergedLog log(seed);
    for (int group = 0; group < 4; ++group) {
      for (size_t points = log.log().below(30) + 1; points > 0; --points) log.add();
      log.take();
      log.expect_same();
      ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed << ", group " << group;
    }
    EXPECT_EQ(log.points(), 4);
  }
}

TEST(PointMerger, MakesSeveralPointsWhereOneWouldBeTooLarge) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    MergedLog log(seed, 20'000);
    for (int points = 0; points < 60; ++points) log.add();
    log.take();
    log.expect_same();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    EXPECT_GT(log.points(), 1);
    EXPECT_LT(log.points(), 60);
  }
}

TEST(PointMerger, SaysThatWhatAFileHadAndLostIsZeros) {
  MergedLog log(1);
  log.add_file();
  log.take();
  Point cut;
  cut.changes = {log.log().difference(7, Bytes(512, 'a'), 512)};
  log.add(cut);
  Bytes grown(512, 'a');
  grown.resize(4096);
  Point again;
  again.changes = {SetContent{7, 512, 4096, false, false, {}, {}}};
  log.add(again);
  log.take();
  EXPECT_EQ(log.merged().files.at(7).content, grown);
}

// A file that grows by far in one step is not filled with zeros block by block.
TEST(PointMerger, MakesAPointOfItsOwnOfAFileThatGrowsByFar) {
  MergedLog log(1, 500'000);
  Point made;
  made.changes = {SetFile{7, {}}, SetContent{7, 512, 512, false, false, {}, {}}};
  log.add(made);
  Point grown;
  grown.changes = {SetContent{7, 512, uint64_t{512} * 2000, false, false, {}, {}}};
  log.add(grown);
  EXPECT_EQ(log.points(), 1);
  log.take();
  EXPECT_EQ(std::get<SetContent>(log.last().changes.back()).blocks.size(), 0U);
  EXPECT_EQ(log.merged().files.at(7).content.size(), size_t{512} * 2000);
}

TEST(PointMerger, SaysNothingOfWhatWasDroppedButThat) {
  MergedLog log(1);
  log.add_file();
  Point gone;
  gone.changes = {SetEntry{kRootId, "file", kNoFile}, DropFile{7}};
  log.add(gone);
  log.take();
  ASSERT_EQ(log.last().changes.size(), 2U);
  EXPECT_EQ(std::get<SetEntry>(log.last().changes[0]).child, kNoFile);
  EXPECT_EQ(std::get<DropFile>(log.last().changes[1]).id, 7U);
  EXPECT_EQ(log.last().time_ns, 2);
}

}  // namespace
}  // namespace walfs
