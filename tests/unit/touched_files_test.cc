#include "fs/tracking/touched_files.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>

namespace walfs {
namespace {

TEST(TouchedFiles, AreWhatASetOfInodesWouldBe) {
  const auto table = std::make_unique<TouchedFiles::Table>();
  TouchedFiles touched(*table);
  std::set<uint64_t> model;
  std::minstd_rand random(1);
  for (int i = 0; i < 60000; ++i) {
    // Many of the same home, so that runs form, grow and are broken up.
    const uint64_t inode = 1 + random() % 300 + ((random() % 40) << 40);
    if (random() % 2 == 0) {
      touched.add(inode);
      model.insert(inode);
    } else {
      touched.remove(inode);
      model.erase(inode);
    }
    const uint64_t asked = 1 + random() % 300 + ((random() % 40) << 40);
    ASSERT_EQ(touched.contains(asked), model.contains(asked)) << "after " << i << " steps";
  }
  for (const uint64_t inode : model) ASSERT_TRUE(touched.contains(inode));
  const auto all = touched.all();
  EXPECT_EQ(std::set<uint64_t>(all.begin(), all.end()), model);
}

TEST(TouchedFiles, OutliveTheProcessThatTouchedThem) {
  const auto table = std::make_unique<TouchedFiles::Table>();
  TouchedFiles(*table).add(7);
  EXPECT_TRUE(TouchedFiles(*table).contains(7));
  EXPECT_FALSE(TouchedFiles(*table).contains(8));
}

TEST(TouchedFiles, AreNoMatterToWhatIsKnownOfSyncs) {
  const auto table = std::make_unique<TouchedFiles::Table>();
  TouchedFiles(*table).note_synced(7);
  TouchedFiles next(*table);
  EXPECT_TRUE(next.is_synced(7));
  EXPECT_FALSE(next.is_synced(8));
  EXPECT_FALSE(next.contains(7));
  next.note_unsynced(7);
  EXPECT_FALSE(next.is_synced(7));
  for (uint64_t inode = 1; inode <= TouchedFiles::kFilesMax + 1; ++inode) next.note_synced(inode);
  EXPECT_FALSE(next.is_synced(TouchedFiles::kFilesMax + 1));
}

TEST(TouchedFiles, AreAllFilesWhenThereAreTooMany) {
  const auto table = std::make_unique<TouchedFiles::Table>();
  TouchedFiles touched(*table);
  for (uint64_t inode = 1; inode <= TouchedFiles::kFilesMax; ++inode) touched.add(inode);
  EXPECT_FALSE(touched.everything());
  EXPECT_FALSE(touched.contains(TouchedFiles::kFilesMax + 1));
  touched.add(TouchedFiles::kFilesMax + 1);
  EXPECT_TRUE(touched.everything());
  EXPECT_TRUE(touched.contains(UINT64_MAX));
}

}  // namespace
}  // namespace walfs
