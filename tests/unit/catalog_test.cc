#include "replicator/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

#include "tests/support/log_model.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

using test::Model;
using test::RandomLog;
using test::ScratchDirectory;

Attributes directory_attributes() {
  Attributes attributes;
  attributes.type = FileType::kDirectory;
  attributes.mode = 0755;
  return attributes;
}

std::unique_ptr<Catalog> open_catalog(const std::string& path) {
  auto catalog = Catalog::open(path);
  EXPECT_TRUE(catalog.ok()) << catalog.error().message;
  return std::move(catalog).value();
}

// As a machine finds the database after it lost its power or the process was killed: without the
// end that a connection makes when it is closed.
std::string crash_image(const ScratchDirectory& scratch, const std::string& name) {
  std::string image = scratch.path(name + "-image");
  for (const char* suffix : {"", "-wal"}) {
    const std::string from = scratch.path(name) + suffix;
    if (std::filesystem::exists(from)) std::filesystem::copy_file(from, image + suffix);
  }
  return image;
}

std::map<FileId, Attributes> files_of(Catalog& catalog) {
  std::map<FileId, Attributes> files;
  EXPECT_TRUE(catalog
                  .for_each_file(
                      [&](const Catalog::FileRow& row) { files.emplace(row.id, row.attributes); })
                  .ok());
  return files;
}

std::map<std::pair<FileId, std::string>, FileId> entries_of(Catalog& catalog) {
  std::map<std::pair<FileId, std::string>, FileId> entries;
  EXPECT_TRUE(catalog
                  .for_each_entry([&](const SetEntry& entry) {
                    entries[{entry.parent, entry.name}] = entry.child;
                  })
                  .ok());
  return entries;
}

// "" when the catalog is what the model says, else what differs.
std::string difference(Catalog& catalog, const Model& model) {
  if (entries_of(catalog) != model.entries) return "entries";
  const auto files = files_of(catalog);
  if (files.size() != model.files.size()) return "files";
  for (const auto& [id, file] : model.files) {
    if (!files.contains(id) || files.at(id) != file.attributes) return "attributes";
    const auto content = catalog.content(id);
    if (!content.ok()) return content.error().message;
    if (content->has_value() != (file.block_size != 0)) return "content or none";
    if (!content->has_value()) continue;
    const ContentState& state = **content;
    if (state.block_size != file.block_size || state.size != file.content.size() ||
        state.database != file.database) {
      return "content's size or kind";
    }
    if (state.hashes != model_hashes(file)) return "hashes of file " + std::to_string(id);
  }
  return "";
}

SetContent one_block(FileId id, uint64_t index, uint64_t hash, uint64_t size) {
  SetContent change;
  change.id = id;
  change.block_size = 512;
  change.size = size;
  change.blocks = {{index, hash, {}, 0}};
  return change;
}

Point point_of(std::vector<Change> changes) {
  Point point;
  point.changes = std::move(changes);
  return point;
}

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() : catalog_(open_catalog(path())) {}
  std::string path() const { return scratch_.path("catalog.db"); }
  void reopen() {
    catalog_.reset();
    catalog_ = open_catalog(path());
  }
  ContentState content(FileId id) {
    const auto found = catalog_->content(id);
    EXPECT_TRUE(found.ok() && found->has_value());
    return found.ok() && *found ? **found : ContentState();
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Catalog> catalog_;
};

TEST(CatalogProperty, StateIsThatOfTheNaiveModelAfterAnyPoints) {
  EXPECT_TRUE(rc::check([] {
    const ScratchDirectory scratch;
    const auto catalog = open_catalog(scratch.path("catalog.db"));
    RandomLog log(*rc::gen::arbitrary<uint32_t>());
    RC_ASSERT(catalog->put_file(kRootId, directory_attributes()).ok());
    const auto count = *rc::gen::inRange<size_t>(1, 60);
    for (size_t i = 0; i < count; ++i) {
      RC_ASSERT(catalog->apply(log.next()).ok());
      if (i + 1 < count && log.below(6) != 0) continue;
      const std::string wrong = difference(*catalog, log.state());
      RC_ASSERT(wrong == "");
    }
  }));
}

TEST(CatalogProperty, StateIsTheSameAfterCommittingAndOpeningAgain) {
  EXPECT_TRUE(rc::check([] {
    const ScratchDirectory scratch;
    RandomLog log(*rc::gen::arbitrary<uint32_t>());
    {
      const auto catalog = open_catalog(scratch.path("catalog.db"));
      RC_ASSERT(catalog->put_file(kRootId, directory_attributes()).ok());
      for (size_t i = 0; i < 20; ++i) RC_ASSERT(catalog->apply(log.next()).ok());
      RC_ASSERT(catalog->commit(Position::of(1, 20)).ok());
    }
    const auto again = open_catalog(scratch.path("catalog.db"));
    RC_ASSERT(difference(*again, log.state()) == "");
    RC_ASSERT(again->header().position == Position::of(1, 20));
  }));
}

// The first upload reads files slice by slice while the log goes on: what the log says wins, and in
// the end the catalog is the state.
TEST(CatalogProperty, StateIsRightWhenFilesAreReadWhileTheLogGoesOn) {  // I9
  EXPECT_TRUE(rc::check([] {
    const ScratchDirectory scratch;
    const auto catalog = open_catalog(scratch.path("catalog.db"));
    RandomLog log(*rc::gen::arbitrary<uint32_t>());
    for (size_t i = 0; i < 20; ++i) log.next();
    const Model baseline = log.state();
    for (const auto& [id, file] : baseline.files) {
      RC_ASSERT(catalog->put_file(id, file.attributes).ok());
      if (file.block_size == 0) continue;
      const ContentState unread{file.block_size, file.content.size(), file.database, false, {}};
      RC_ASSERT(catalog->put_scanned(id, unread, 0, {}).ok());
    }
    for (const auto& [name, child] : baseline.entries) {
      RC_ASSERT(catalog->put_entry(name.first, name.second, child).ok());
    }
    for (const auto& [id, file] : baseline.files) {
      if (file.block_size == 0) continue;
      for (size_t first = 0;; first += 4) {
        for (size_t i = log.below(3); i > 0; --i) RC_ASSERT(catalog->apply(log.next()).ok());
        // What is there now, which is what the reader of a slice sees.
        const auto now = log.state().files.find(id);
        const auto known = catalog->content(id);
        RC_ASSERT(known.ok());
        if (now == log.state().files.end() || !known->has_value() || (*known)->scanned) break;
        const std::vector<uint64_t> hashes = model_hashes(now->second);
        const size_t begin = std::min(first, hashes.size());
        const size_t end = std::min(first + 4, hashes.size());
        const ContentState state{now->second.block_size,
                                 now->second.content.size(),
                                 now->second.database,
                                 end == hashes.size(),
                                 {}};
        RC_ASSERT(
            catalog->put_scanned(id, state, begin, std::span(hashes).subspan(begin, end - begin))
                .ok());
        if (state.scanned) break;
      }
    }
    RC_ASSERT(difference(*catalog, log.state()) == "");
    const auto snapshot = catalog->snapshot({Position::of(1, 1), Position::of(1, 2)}, 0);
    RC_ASSERT(snapshot.ok());
    for (const SnapshotFile& file : snapshot->files) {
      RC_ASSERT(file.checksum == model_checksum(log.state().files.at(file.id)));  // I6
    }
  }));
}

TEST_F(CatalogTest, HeaderIsKeptOverOpeningAgain) {
  CatalogHeader header;
  header.volume = "v";
  header.url = "file:///x";
  header.token = "t";
  header.epoch = 7;
  header.parent = Position::of(6, 3);
  header.position = Position::of(7, 9);
  header.complete = Position::of(7, 8);
  ASSERT_TRUE(catalog_->set_header(header).ok());
  ASSERT_TRUE(catalog_->set_claimed().ok());
  ASSERT_TRUE(catalog_->set_snapshot_done().ok());
  ASSERT_TRUE(catalog_->set_clean().ok());
  reopen();
  const CatalogHeader read = catalog_->header();
  EXPECT_EQ(read.volume, "v");
  EXPECT_EQ(read.url, "file:///x");
  EXPECT_EQ(read.token, "t");
  EXPECT_EQ(read.epoch, 7U);
  EXPECT_EQ(read.parent, Position::of(6, 3));
  EXPECT_EQ(read.position, Position::of(7, 9));
  EXPECT_EQ(read.complete, Position::of(7, 8));
  EXPECT_TRUE(read.claimed && read.snapshot_done && read.clean);
}

TEST_F(CatalogTest, KnowsNothingThatWasNotCommittedAfterACrash) {
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{2, {}}, one_block(2, 0, 77, 512)})).ok());
  ASSERT_TRUE(catalog_->commit(Position::of(1, 1)).ok());
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{3, {}}, one_block(2, 0, 78, 512)})).ok());
  const auto after = open_catalog(crash_image(scratch_, "catalog.db"));
  EXPECT_EQ(after->header().position, Position::of(1, 1));
  EXPECT_EQ(files_of(*after).size(), 1U);
  EXPECT_THAT((*after->content(2))->hashes, ::testing::ElementsAre(77));
}

TEST_F(CatalogTest, KnowsWhichFilesPartialPointsHaveTorn) {
  SetContent whole;
  whole.id = 2;
  whole.block_size = 512;
  whole.size = 512;
  whole.database = true;
  whole.checksum = 0;
  SetContent part = whole;
  part.id = 3;
  part.checksum.reset();
  Point point;
  point.position = Position::of(1, 1);
  point.partial = true;
  point.changes = {SetFile{2, {}}, SetFile{3, {}}, whole, part};
  ASSERT_TRUE(catalog_->apply(point).ok());
  ASSERT_TRUE(catalog_->commit(point.position).ok());
  reopen();
  EXPECT_EQ(catalog_->header().complete, Position{});
  EXPECT_FALSE((*catalog_->content(2))->torn);
  EXPECT_TRUE((*catalog_->content(3))->torn);
  EXPECT_TRUE((*catalog_->content(3))->database);
  std::vector<FileId> torn;
  ASSERT_TRUE(catalog_
                  ->for_each_file([&](const Catalog::FileRow& row) {
                    if (row.torn) torn.push_back(row.id);
                  })
                  .ok());
  EXPECT_EQ(torn, std::vector<FileId>{3});
  whole.id = 3;
  point.position = Position::of(1, 2);
  point.partial = false;
  point.changes = {whole};
  ASSERT_TRUE(catalog_->apply(point).ok());
  ASSERT_TRUE(catalog_->commit(point.position).ok());
  EXPECT_EQ(catalog_->header().complete, point.position);
  EXPECT_FALSE((*catalog_->content(3))->torn);
}

TEST_F(CatalogTest, KnowsAllThatWasCommittedAfterACrash) {
  for (uint64_t i = 1; i <= 50; ++i) {
    ASSERT_TRUE(catalog_->apply(point_of({one_block(2, i - 1, 100 + i, i * 512)})).ok());
    ASSERT_TRUE(catalog_->commit(Position::of(1, i)).ok());
  }
  const auto after = open_catalog(crash_image(scratch_, "catalog.db"));
  EXPECT_EQ(after->header().position, Position::of(1, 50));
  EXPECT_EQ((*after->content(2))->hashes.back(), 150U);
}

TEST_F(CatalogTest, ThatIsDamagedIsReplacedByAnEmptyOne) {
  CatalogHeader header;
  header.volume = "v";
  ASSERT_TRUE(catalog_->set_header(header).ok());
  for (FileId id = 2; id < 500; ++id) {
    ASSERT_TRUE(catalog_->apply(point_of({SetFile{id, {}}, one_block(id, 0, 77, 512)})).ok());
  }
  ASSERT_TRUE(catalog_->commit(Position::of(1, 1)).ok());
  catalog_.reset();
  const Bytes whole = test::read_whole(path());
  ASSERT_GT(whole.size(), 8U * 4096);
  Bytes no_header = whole;
  std::fill_n(no_header.begin(), 100, uint8_t{0x5a});
  Bytes no_pages = whole;
  std::fill(no_pages.begin() + 4096, no_pages.end(), uint8_t{0x5a});
  for (const Bytes& damaged : {no_header, no_pages}) {
    test::write_whole(path(), damaged);
    const auto catalog = open_catalog(path());
    ASSERT_NE(catalog, nullptr);
    EXPECT_EQ(catalog->header().volume, "");
    EXPECT_TRUE(files_of(*catalog).empty());
    EXPECT_TRUE(catalog->apply(point_of({SetFile{2, {}}})).ok());
    EXPECT_TRUE(catalog->commit(Position::of(1, 1)).ok());
  }
}

TEST_F(CatalogTest, OfAnotherVersionIsReplacedByAnEmptyOne) {
  catalog_.reset();
  {
    const auto database = SqlDatabase::open(path());
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE((*database)->execute("PRAGMA user_version = 99; CREATE TABLE other(x)").ok());
  }
  EXPECT_EQ(open_catalog(path())->header().volume, "");
}

TEST_F(CatalogTest, GivesNoIdTwice) {
  const FileId first = catalog_->new_id();
  EXPECT_GT(first, kRootId);
  const FileId second = catalog_->new_id();
  EXPECT_NE(first, second);
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{second, {}}})).ok());
  ASSERT_TRUE(catalog_->commit(Position::of(1, 1)).ok());
  reopen();
  EXPECT_GT(catalog_->new_id(), second);
}

TEST_F(CatalogTest, GivesNoIdOfADroppedFileAgainAfterOpeningAgain) {
  const FileId id = catalog_->new_id();
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{id, {}}})).ok());
  ASSERT_TRUE(catalog_->apply(point_of({DropFile{id}})).ok());
  ASSERT_TRUE(catalog_->commit(Position::of(1, 2)).ok());
  reopen();
  EXPECT_GT(catalog_->new_id(), id);
}

TEST_F(CatalogTest, ForgetsAllFilesButNotTheHeaderWhenWiped) {
  CatalogHeader header;
  header.volume = "v";
  ASSERT_TRUE(catalog_->set_header(header).ok());
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{2, {}}, SetEntry{1, "n", 2}})).ok());
  ASSERT_TRUE(catalog_->wipe().ok());
  EXPECT_TRUE(files_of(*catalog_).empty());
  EXPECT_TRUE(entries_of(*catalog_).empty());
  reopen();
  EXPECT_TRUE(files_of(*catalog_).empty());
  EXPECT_EQ(catalog_->header().volume, "v");
}

// A directory may have a million of them.
TEST_F(CatalogTest, TakesLittleRoomForSmallFiles) {
  constexpr uint64_t kFiles = 4000;
  for (FileId id = 2; id < 2 + kFiles; ++id) {
    SetFile file;
    file.id = id;
    SetContent content;
    content.id = id;
    content.block_size = 4096;
    content.size = 100;
    content.blocks.push_back({0, id, {}, 0});
    Point point = point_of({content});
    point.changes.insert(point.changes.begin(),
                         {file, SetEntry{kRootId, "file " + std::to_string(id), id}});
    ASSERT_TRUE(catalog_->apply(point).ok());
  }
  ASSERT_TRUE(catalog_->commit(Position::of(1, 1)).ok());
  catalog_.reset();
  EXPECT_LT(std::filesystem::file_size(path()), kFiles * 256);
}

TEST_F(CatalogTest, HasNoContentOfAFileThatItDoesNotKnowOrThatNeverHadAny) {
  ASSERT_TRUE(catalog_->apply(point_of({SetFile{2, {}}})).ok());
  EXPECT_FALSE(catalog_->content(2)->has_value());
  EXPECT_FALSE(catalog_->content(99)->has_value());
}

TEST_F(CatalogTest, KeepsHashesOfTheLogWhenOlderOnesAreReadAfterwards) {
  const ContentState unread{512, 3 * 512, true, false, {}};
  ASSERT_TRUE(catalog_->put_scanned(2, unread, 0, {}).ok());
  ASSERT_TRUE(catalog_->apply(point_of({one_block(2, 1, 1001, 3 * 512)})).ok());
  EXPECT_THAT(content(2).hashes, ::testing::ElementsAre(kUnknownHash, 1001, kUnknownHash));
  ContentState read = unread;
  read.scanned = true;
  const uint64_t hashes[] = {10, 11, 12};
  ASSERT_TRUE(catalog_->put_scanned(2, read, 0, hashes).ok());
  EXPECT_THAT(content(2).hashes, ::testing::ElementsAre(10, 1001, 12));
}

TEST_F(CatalogTest, TakesNoHashesOfAnotherBlockSizeThanTheLogHasSetMeanwhile) {
  const ContentState unread{512, 2 * 512, false, false, {}};
  ASSERT_TRUE(catalog_->put_scanned(2, unread, 0, {}).ok());
  SetContent change = one_block(2, 0, 5000, 1024);
  change.block_size = 1024;
  change.reset = true;
  ASSERT_TRUE(catalog_->apply(point_of({change})).ok());
  ContentState read = unread;
  read.scanned = true;
  const uint64_t hashes[] = {10, 11};
  ASSERT_TRUE(catalog_->put_scanned(2, read, 0, hashes).ok());
  EXPECT_EQ(content(2).block_size, 1024U);
  EXPECT_THAT(content(2).hashes, ::testing::ElementsAre(5000));
}

TEST_F(CatalogTest, MakesNoSnapshotBeforeEverythingWasRead) {
  ASSERT_TRUE(catalog_->put_file(2, {}).ok());
  ASSERT_TRUE(catalog_->put_scanned(2, {512, 1024, false, false, {}}, 0, {}).ok());
  EXPECT_FALSE(catalog_->snapshot({}, 0).ok());
}

TEST_F(CatalogTest, PutsTheExtentsOfTheScanIntoTheSnapshotWithEachChunkOnce) {
  ASSERT_TRUE(catalog_->put_file(2, {}).ok());
  ASSERT_TRUE(catalog_->put_file(3, {}).ok());
  const uint64_t hashes[] = {10, 11};
  ASSERT_TRUE(catalog_->put_scanned(2, {512, 1024, false, true, {}}, 0, hashes).ok());
  ASSERT_TRUE(catalog_->put_scanned(3, {512, 1024, false, true, {}}, 0, hashes).ok());
  ChunkRef chunk;
  chunk.digest[0] = 1;
  chunk.size = 2048;
  ASSERT_TRUE(catalog_->put_extent(2, 0, 1024, chunk, 0).ok());
  ASSERT_TRUE(catalog_->put_extent(3, 0, 1024, chunk, 1024).ok());
  const auto snapshot = catalog_->snapshot({Position::of(1, 1), Position::of(1, 2)}, 42);
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  EXPECT_EQ(snapshot->time_ns, 42);
  ASSERT_EQ(snapshot->chunks.size(), 1U);
  EXPECT_EQ(snapshot->chunks[0].size, 2048U);
  ASSERT_EQ(snapshot->files.size(), 2U);
  EXPECT_EQ(snapshot->files[1].extents[0].chunk_offset, 1024U);
  EXPECT_EQ(snapshot->files[0].checksum, 21U);
}

TEST_F(CatalogTest, SavesSignaturesAndInodes) {
  ASSERT_TRUE(catalog_->put_file(2, {}).ok());
  ASSERT_TRUE(catalog_->set_inode(2, UINT64_MAX).ok());
  const Signature signature{5, -6, 7};
  ASSERT_TRUE(catalog_->save_signature(2, signature).ok());
  ASSERT_TRUE(catalog_->set_clean().ok());
  reopen();
  size_t seen = 0;
  ASSERT_TRUE(catalog_
                  ->for_each_file([&](const Catalog::FileRow& row) {
                    ++seen;
                    EXPECT_EQ(row.inode, UINT64_MAX);
                    EXPECT_EQ(row.signature, signature);
                  })
                  .ok());
  EXPECT_EQ(seen, 1U);
}

}  // namespace
}  // namespace walfs
