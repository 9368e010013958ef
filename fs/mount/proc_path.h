// A path to what is only open as O_PATH, for the system calls that need one: the magic link leads
// to the inode itself, also when that is a symlink.
#pragma once

#include <cstdio>

namespace walfs {

struct ProcPath {
  explicit ProcPath(int fd) { std::snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

}  // namespace walfs
