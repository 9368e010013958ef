// Two directory trees compared as a restore promises them: names, bytes, modes, owners, symbolic
// links, groups of hard links, extended attributes, modification times of files and links.
//
// A database's companions are left out of the expected tree by a rule of our own, that does not
// lean on the program's: NAME-wal, NAME-shm, NAME-journal and super-journals, beside a NAME that is
// empty or begins as a database does.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/read_file.h"

namespace walfs::test {

struct TreeEntry {
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t rdev = 0;
  int64_t mtime_ns = 0;
  std::string content;  // Bytes of a file, target of a symbolic link.
  std::string twin;     // The first path of the same inode.
  std::map<std::string, std::string> xattrs;
};
using Tree = std::map<std::string, TreeEntry>;  // By path relative to the root, "" included.

inline std::string read_whole_file(const std::string& path) {
  return read_file_as<std::string>(path);
}

inline void read_entry_xattrs(const std::string& path, TreeEntry& entry) {
  std::string names(65536, '\0');
  const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  std::string value(65536, '\0');
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(&names[at])) + 1) {
    const std::string name = &names[at];
    const ssize_t length = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (length >= 0) entry.xattrs[name] = value.substr(0, static_cast<size_t>(length));
  }
}

inline TreeEntry read_entry(const std::string& path, const struct stat& attributes) {
  TreeEntry entry;
  entry.mode = attributes.st_mode;
  entry.uid = attributes.st_uid;
  entry.gid = attributes.st_gid;
  entry.rdev = S_ISCHR(attributes.st_mode) || S_ISBLK(attributes.st_mode) ? attributes.st_rdev : 0;
  entry.mtime_ns = attributes.st_mtim.tv_sec * 1'000'000'000 + attributes.st_mtim.tv_nsec;
  if (S_ISREG(attributes.st_mode)) entry.content = read_whole_file(path);
  if (S_ISLNK(attributes.st_mode)) entry.content = std::filesystem::read_symlink(path).string();
  read_entry_xattrs(path, entry);
  return entry;
}

// Everything beneath `root` but the state directory. An unreadable directory ends the program.
inline Tree read_tree(const std::string& root) {
  Tree tree;
  std::map<ino_t, std::string> inodes;
  std::vector<std::string> todo = {""};
  while (!todo.empty()) {
    const std::string relative = todo.back();
    todo.pop_back();
    const std::string path = relative.empty() ? root : root + "/" + relative;
    struct stat attributes {};
    if (lstat(path.c_str(), &attributes) != 0) continue;
    TreeEntry& entry = tree[relative] = read_entry(path, attributes);
    if (!S_ISDIR(attributes.st_mode)) {
      std::string& first = inodes[attributes.st_ino];
      if (first.empty() || relative < first) first = relative;
      entry.twin = std::to_string(attributes.st_ino);  // Replaced below.
      continue;
    }
    for (const auto& child : std::filesystem::directory_iterator(path)) {
      const std::string name = child.path().filename().string();
      if (relative.empty() && name == ".walfs") continue;
      todo.push_back(relative.empty() ? name : relative + "/" + name);
    }
  }
  for (auto& [path, entry] : tree)
    if (!entry.twin.empty()) entry.twin = inodes.at(std::stoull(entry.twin));
  return tree;
}

inline bool begins_as_database(const std::string& content) {
  return content.starts_with(std::string("SQLite format 3\0", 16)) && content.size() >= 100;
}

// The file whose companion this name could be, or "".
inline std::string companion_base(const std::string& path) {
  static const std::regex pattern("(.+)(-wal|-shm|-journal|-mj[0-9A-F]{6}9[0-9A-F]{2})");
  std::smatch match;
  return std::regex_match(path, match, pattern) ? match[1].str() : "";
}

// Of a file that is written to and neither synced nor closed: the kernel keeps its time to itself
// until it writes the pages back, and the source has, for that long, the time of the write-back.
// *ChangeTimes* compares exactly.
inline constexpr int64_t kTimeToleranceNs = 1'000'000'000;

enum class Companion { kNo, kYes, kPerhaps };

// Beside an empty file nobody can know: SQLite makes a journal before the database has a byte.
inline Companion is_companion(const Tree& tree, const std::string& path) {
  const auto base = tree.find(companion_base(path));
  if (base == tree.end() || companion_base(path).empty() || !S_ISREG(base->second.mode) ||
      !S_ISREG(tree.at(path).mode))
    return Companion::kNo;
  if (begins_as_database(base->second.content)) return Companion::kYes;
  return base->second.content.empty() ? Companion::kPerhaps : Companion::kNo;
}

inline std::string describe_bytes(const std::string& expected, const std::string& actual) {
  std::string text = std::to_string(expected.size()) + " and " + std::to_string(actual.size()) +
                     " bytes, unequal at";
  size_t shown = 0;
  const size_t block = 512;
  for (size_t at = 0; at < std::min(expected.size(), actual.size()) && shown < 8; at += block) {
    if (expected.compare(at, block, actual, at, block) == 0) continue;
    text += " " + std::to_string(at);
    ++shown;
  }
  return text;
}

inline void compare_entries(const std::string& path, const TreeEntry& expected,
                            const TreeEntry& actual, std::vector<std::string>& differences) {
  const auto check = [&](bool same, const std::string& what) {
    if (!same) differences.push_back((path.empty() ? "(root)" : path) + ": " + what);
  };
  check(expected.mode == actual.mode,
        "mode " + std::to_string(expected.mode) + " became " + std::to_string(actual.mode));
  check(expected.uid == actual.uid && expected.gid == actual.gid, "owner");
  check(expected.rdev == actual.rdev, "device");
  check(expected.content == actual.content, describe_bytes(expected.content, actual.content));
  check(expected.twin == actual.twin,
        "linked with " + expected.twin + ", restored with " + actual.twin);
  check(expected.xattrs == actual.xattrs, "extended attributes");
  if (!S_ISDIR(expected.mode)) {
    check(std::abs(expected.mtime_ns - actual.mtime_ns) <= kTimeToleranceNs,
          "mtime " + std::to_string(expected.mtime_ns) + " became " +
              std::to_string(actual.mtime_ns));
  }
}

// What is different; empty if the restored tree is what the expected one promises.
inline std::vector<std::string> compare_trees(const Tree& expected, const Tree& restored) {
  std::vector<std::string> differences;
  for (const auto& [path, entry] : expected) {
    const Companion companion = is_companion(expected, path);
    const auto found = restored.find(path);
    if (companion == Companion::kYes) {
      if (found != restored.end()) differences.push_back(path + ": a companion was restored");
    } else if (found != restored.end()) {
      compare_entries(path, entry, found->second, differences);
    } else if (companion == Companion::kNo) {
      differences.push_back(path + ": is missing");
    }
  }
  for (const auto& [path, entry] : restored)
    if (!expected.contains(path)) differences.push_back(path + ": was not there");
  return differences;
}

inline std::string join_lines(const std::vector<std::string>& lines, size_t limit = 30) {
  std::string text;
  for (size_t i = 0; i < lines.size() && i < limit; ++i) text += "  " + lines[i] + "\n";
  if (lines.size() > limit) text += "  ... and " + std::to_string(lines.size() - limit) + " more\n";
  return text;
}

}  // namespace walfs::test
