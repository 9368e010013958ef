// The same calls by the same callers in a mount and in a plain directory, compared by what they
// returned and by what was there afterwards.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/mounted_directory.h"

namespace walfs::test {

struct Caller {
  const char* name;
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
};

// Makes this thread act for somebody else until the end of the scope. System calls, because libc's
// functions change every thread.
class ActingAs {
 public:
  explicit ActingAs(const Caller& caller) { become(caller.groups, caller.gid, caller.uid); }
  ~ActingAs() {
    if (syscall(SYS_setresuid, -1, 0, -1) != 0) std::abort();
    become({}, 0, 0);
  }
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;

 private:
  static void become(const std::vector<gid_t>& groups, gid_t gid, uid_t uid) {
    if (syscall(SYS_setgroups, groups.size(), groups.data()) != 0 ||
        syscall(SYS_setresgid, -1, gid, -1) != 0 || syscall(SYS_setresuid, -1, uid, -1) != 0)
      std::abort();
  }
};

// What a call came to, as text: its result, or the name of its errno.
inline std::string outcome_text(int64_t result) {
  if (result >= 0) return std::to_string(result);
  const char* name = strerrorname_np(errno);
  return name != nullptr ? name : std::to_string(errno);
}

inline std::string attributes_text(const struct stat& attributes) {
  std::ostringstream text;
  text << std::oct << attributes.st_mode << std::dec << " " << attributes.st_uid << ":"
       << attributes.st_gid << " links " << attributes.st_nlink;
  if (S_ISREG(attributes.st_mode) || S_ISLNK(attributes.st_mode))
    text << " size " << attributes.st_size;
  if (S_ISCHR(attributes.st_mode) || S_ISBLK(attributes.st_mode))
    text << " device " << major(attributes.st_rdev) << "," << minor(attributes.st_rdev);
  return text.str();
}

// Calls `body` with an open descriptor of the file; -1 and errno if it cannot be opened.
inline int64_t with_file(const std::string& path, int flags,
                         const std::function<int64_t(int)>& body, mode_t mode = 0666) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
  if (fd < 0) return -1;
  const int64_t result = body(fd);
  const int error = errno;
  close(fd);
  errno = error;
  return result;
}

// One of the two directories.
class Place {
 public:
  explicit Place(std::string root) : root_(std::move(root)) {}
  std::string operator()(const std::string& name) const { return root_ + "/" + name; }
  const std::string& root() const { return root_; }

  // Makes it an empty directory that everybody can enter.
  void clear() const {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directory(root_);
    chmod(root_.c_str(), 0755);
  }

  // A line for each name beneath it.
  std::string tree() const {
    std::map<std::string, std::string> lines;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      struct stat attributes {};
      const std::string path = entry.path().string();
      lines[path.substr(root_.size() + 1)] =
          lstat(path.c_str(), &attributes) == 0 ? attributes_text(attributes) : outcome_text(-1);
    }
    std::string text;
    for (const auto& [name, line] : lines) text += "  " + name.substr(0, 40) + " " + line + "\n";
    return text;
  }

 private:
  std::string root_;
};

struct Call {
  std::string name;
  std::function<int64_t(const Place&)> run;
};

// A mount and a plain directory on the same filesystem.
class SideBySide : public testing::Test {
 protected:
  SideBySide() : mount_(mounted_.path("place")), plain_(beside_.path() + "/place") {}

  // Calls in both places as `caller`, and compares. They are prepared if anything was changed in
  // them since the same title. Returns whether the call succeeded.
  bool same(const std::string& title, const Caller& caller,
            const std::function<void(const Place&)>& prepare, const Call& call) {
    if (title != prepared_) {
      prepare(plain_);
      prepare(mount_);
      prepared_tree_ = plain_.tree();
    }
    prepared_ = title;
    const std::string what = title + ", " + call.name + " by " + caller.name;
    const std::string expected = outcome(plain_, caller, call);
    EXPECT_EQ(outcome(mount_, caller, call), expected) << what;
    ++calls_;
    if (std::isdigit(static_cast<unsigned char>(expected[0])) == 0) return false;
    const std::string tree = plain_.tree();
    EXPECT_EQ(mount_.tree(), tree) << what;
    if (tree != prepared_tree_) prepared_.clear();
    return true;
  }

  static std::string outcome(const Place& place, const Caller& caller, const Call& call) {
    ActingAs act(caller);
    return outcome_text(call.run(place));
  }

  MountedDirectory mounted_{{}, Seconds(300)};
  TemporaryDirectory beside_;
  const Place mount_;
  const Place plain_;
  int calls_ = 0;
  std::string prepared_;  // The title, or "" once the tree is another.
  std::string prepared_tree_;
};

}  // namespace walfs::test
