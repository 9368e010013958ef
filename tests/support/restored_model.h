// A directory that was restored, beside the model of what it should be.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/log_model.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {

// Compares a restored tree with the model, directory by directory.
inline void expect_tree(const Model& model, FileId id, const std::string& path) {
  const ModelFile& file = model.files.at(id);
  struct stat attributes {};
  ASSERT_EQ(::lstat(path.c_str(), &attributes), 0) << path;
  const int64_t mtime = attributes.st_mtim.tv_sec * 1'000'000'000 + attributes.st_mtim.tv_nsec;
  EXPECT_EQ(mtime, file.attributes.mtime_ns) << path;
  if (file.attributes.type == FileType::kSymlink) {
    EXPECT_EQ(std::filesystem::read_symlink(path), file.attributes.symlink_target);
    return;
  }
  EXPECT_EQ(attributes.st_mode & 07777, file.attributes.mode) << path;
  if (file.attributes.type == FileType::kRegular) {
    EXPECT_EQ(read_whole(path), file.content) << path;
    return;
  }
  ASSERT_TRUE(S_ISDIR(attributes.st_mode)) << path;
  std::map<std::string, FileId> names;
  for (const auto& [entry, child] : model.entries) {
    if (entry.first == id) names[entry.second] = child;
  }
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    ASSERT_TRUE(names.contains(entry.path().filename())) << entry.path();
    ++found;
  }
  EXPECT_EQ(found, names.size()) << path;
  for (const auto& [name, child] : names) expect_tree(model, child, path + "/" + name);
}

inline std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

}  // namespace walfs::test
