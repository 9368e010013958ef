// A full disk under the spool and the catalog: the log waits, loses nothing, and goes on when there
// is room again (I7).
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>

#include "replicator/catalog.h"
#include "replicator/log.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {
namespace {

// A filesystem of 8 MiB. Needs root, as the mount tests do.
class SmallDisk {
 public:
  SmallDisk() {
    mounted_ = ::mount("walfs-test", directory_.path().c_str(), "tmpfs", 0, "size=8m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  std::string path(const std::string& name) const { return directory_.path(name); }
  std::string make(const std::string& name) const { return directory_.make(name); }
  void fill(size_t bytes) const {
    std::ofstream out(path("filler"), std::ios::binary);
    const std::string block(4096, 'f');
    for (size_t done = 0; done < bytes && out.write(block.data(), 4096).flush(); done += 4096) {
    }
  }
  void free_room() const { ::unlink(path("filler").c_str()); }

 private:
  ScratchDirectory directory_;
  bool mounted_ = false;
};

// A file of 40 blocks with pseudo-random content, so that it does not compress.
Point point_with_file(FileId id, Bytes& content) {
  constexpr uint32_t kBlock = 512;
  content.resize(size_t{40} * kBlock);
  uint64_t state = id * 2654435761U + 1;
  for (uint8_t& byte : content) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<uint8_t>(state >> 56);
  }
  SetContent change;
  change.id = id;
  change.block_size = kBlock;
  change.size = content.size();
  for (uint64_t index = 0; index < 40; ++index) {
    const ByteView block = ByteView(content).subspan(index * kBlock, kBlock);
    change.blocks.push_back({index, block_hash(index, block, kBlock), block, 0});
  }
  Point point;
  point.changes.emplace_back(SetFile{id, {}});
  point.changes.emplace_back(SetEntry{kRootId, "file" + std::to_string(id), id});
  point.changes.emplace_back(std::move(change));
  return point;
}

TEST(FullDisk, TheLogWaitsLosesNothingAndGoesOn) {
  const SmallDisk disk;
  ASSERT_TRUE(disk.mounted()) << "this test needs root";
  const std::string spool = disk.make("spool");
  constexpr FileId kFiles = 60;
  std::vector<PositionRange> sealed;
  {
    auto catalog = Catalog::open(disk.path("catalog.db"));
    ASSERT_TRUE(catalog.ok());
    CatalogHeader header;
    header.volume = "v";
    header.snapshot_done = true;
    ASSERT_TRUE((*catalog)->set_header(header).ok());
    Log log(**catalog, spool, Position::of(1, 0));
    log.on_sealed([&](PositionRange range) {
      sealed.push_back(range);
      // As the uploader does once the store has it.
      ::unlink((spool + "/" + segment_name(range)).c_str());
    });
    size_t failures = 0;
    for (FileId id = 2; id < 2 + kFiles; ++id) {
      if (id % 7 == 0) disk.fill(size_t{16} << 20);
      Bytes content;
      Point point = point_with_file(id, content);
      auto appended = log.append(point);
      Status status = appended.ok() ? log.seal() : Status(appended.error());
      if (!status.ok()) {
        ++failures;
        EXPECT_EQ(status.error().code, Errc::kNoSpace) << status.error().message;
      }
      disk.free_room();
      if (!appended.ok()) {
        const auto again = log.append(point);
        ASSERT_TRUE(again.ok()) << again.error().message;
      }
      const Status end = log.seal();
      ASSERT_TRUE(end.ok()) << end.error().message;
    }
    EXPECT_GT(failures, 0U) << "the disk was never full: the test does not test";
  }
  // The row of segments has no gap, and the catalog knows every file.
  Position expected = Position::of(1, 1);
  for (const PositionRange& range : sealed) {
    EXPECT_EQ(range.first, expected);
    expected = range.last.next();
  }
  EXPECT_EQ(expected, Position::of(1, kFiles + 1));
  auto catalog = Catalog::open(disk.path("catalog.db"));
  ASSERT_TRUE(catalog.ok());
  EXPECT_EQ((*catalog)->header().position, Position::of(1, kFiles));
  for (FileId id = 2; id < 2 + kFiles; ++id) {
    Bytes content;
    const Point point = point_with_file(id, content);
    const auto state = (*catalog)->content(id);
    ASSERT_TRUE(state.ok() && state->has_value()) << id;
    const auto& change = std::get<SetContent>(point.changes[2]);
    for (const BlockChange& block : change.blocks) {
      ASSERT_EQ((*state)->hashes[block.index], block.hash) << "file " << id;
    }
  }
}

// What a statement did outside of it would be durable before its point, and what a read found would
// be from before points that the log has.
TEST(FullDisk, ACatalogThatHasLostItsTransactionSaysNothingUntilItHasItAgain) {
  const SmallDisk disk;
  ASSERT_TRUE(disk.mounted()) << "this test needs root";
  const ScratchDirectory elsewhere;
  {
    auto catalog = std::move(Catalog::open(disk.path("catalog.db"))).value();
    CatalogHeader header;
    header.volume = "v";
    header.snapshot_done = true;
    ASSERT_TRUE(catalog->set_header(header).ok());
    Log log(*catalog, elsewhere.make("spool"), Position::of(1, 0));
    Bytes content;
    const auto append = [&](FileId id) {
      Point point = point_with_file(id, content);
      return log.append(point, {{id, 100 + id}});
    };
    ASSERT_TRUE(append(2).ok());
    ASSERT_TRUE(log.seal().ok());
    ASSERT_TRUE(append(3).ok());
    disk.fill(size_t{16} << 20);
    EXPECT_EQ(log.seal().error().code, Errc::kNoSpace);
    ASSERT_TRUE(catalog->transaction_lost());
    EXPECT_FALSE(catalog->content(3).ok());
    EXPECT_FALSE(catalog->for_each_entry([](const SetEntry&) {}).ok());
    EXPECT_FALSE(catalog->set_inode(3, 7).ok());
    EXPECT_FALSE(catalog->note_uploaded(Position::of(1, 2)).ok());
    EXPECT_FALSE(catalog->set_clean().ok());
    EXPECT_EQ(append(4).error().code, Errc::kNoSpace);
    EXPECT_EQ(catalog->header().position, Position::of(1, 1));
    disk.free_room();
    ASSERT_TRUE(append(4).ok());
    ASSERT_TRUE(log.seal().ok());
  }
  auto catalog = std::move(Catalog::open(disk.path("catalog.db"))).value();
  EXPECT_EQ(catalog->header().position, Position::of(1, 3));
  EXPECT_FALSE(catalog->header().clean);
  std::map<FileId, uint64_t> inodes;
  ASSERT_TRUE(
      catalog->for_each_file([&](const Catalog::FileRow& row) { inodes[row.id] = row.inode; })
          .ok());
  EXPECT_EQ(inodes, (std::map<FileId, uint64_t>{{2, 102}, {3, 103}, {4, 104}}));
}

// A point of a log that began without a first snapshot has nothing to stand on.
TEST(FullDisk, AFirstUploadWhoseCatalogLostItBeginsAnew) {
  const SmallDisk disk;
  ASSERT_TRUE(disk.mounted()) << "this test needs root";
  const ScratchDirectory elsewhere;
  auto catalog = std::move(Catalog::open(disk.path("catalog.db"))).value();
  CatalogHeader header;
  header.volume = "v";
  ASSERT_TRUE(catalog->set_header(header).ok());
  Log log(*catalog, elsewhere.make("spool"), Position::of(1, 0));
  Bytes content;
  Point point = point_with_file(2, content);
  ASSERT_TRUE(log.append(point).ok());
  ASSERT_TRUE(catalog->set_snapshot_done().ok());
  disk.fill(size_t{16} << 20);
  EXPECT_FALSE(log.seal().ok());
  disk.free_room();
  const auto sealed = log.seal();
  EXPECT_EQ(sealed.error().code, Errc::kNoSpace);
  EXPECT_NE(sealed.error().message.find("begin anew"), std::string::npos) << sealed.error().message;
  catalog.reset();
  catalog = std::move(Catalog::open(disk.path("catalog.db"))).value();
  EXPECT_FALSE(catalog->header().snapshot_done);
}

}  // namespace
}  // namespace walfs::test
