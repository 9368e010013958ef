// A mount per test, and the calls that tests make on it.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "tests/support/mounted_directory.h"

namespace walfs::test {

// A descriptor that closes itself.
struct File {
  File(const std::string& path, int flags, mode_t mode = 0644)
      : fd(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() {
    if (fd >= 0) close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd;
};

inline void write_file(const std::string& path, const std::string& text, mode_t mode = 0644) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  ASSERT_GE(file.fd, 0) << std::strerror(errno);
  ASSERT_EQ(write(file.fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

inline std::string read_file(const std::string& path) {
  File file(path, O_RDONLY);
  std::string text(1 << 16, '\0');
  ssize_t got = file.fd < 0 ? -1 : read(file.fd, text.data(), text.size());
  return got < 0 ? std::string("error ") + std::strerror(errno)
                 : text.substr(0, static_cast<size_t>(got));
}

inline struct stat stat_of(const std::string& path) {
  struct stat attributes = {};
  EXPECT_EQ(lstat(path.c_str(), &attributes), 0) << path << ": " << std::strerror(errno);
  return attributes;
}

inline std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  DIR* stream = opendir(path.c_str());
  if (stream == nullptr) return {"error"};
  while (const dirent* item = readdir(stream)) names.insert(item->d_name);
  closedir(stream);
  return names;
}

inline void become(uid_t uid, gid_t gid) {
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 ||
      setresuid(uid, uid, uid) != 0)
    _exit(99);
}

class MountSemantics : public testing::Test {
 protected:
  MountedDirectory mounted_;
  std::string at(const std::string& name) { return mounted_.path(name); }
};

}  // namespace walfs::test
