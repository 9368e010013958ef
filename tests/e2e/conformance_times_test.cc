// Which times an operation changes, of which files: the same in the mount and in a plain directory.
#include <sys/xattr.h>

#include "tests/support/side_by_side.h"

namespace walfs::test {
namespace {

constexpr time_t kLongAgo = 1'000'000'000;
const std::vector<std::string> kWatched = {"dir",     "dir/file", "dir/link",
                                           "dir/sub", "other",    "other/file"};

int64_t nanoseconds(const timespec& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void make(const Place& at) {
  at.clear();
  for (const char* name : {"dir", "dir/sub", "other"}) mkdir(at(name).c_str(), 0755);
  for (const char* name : {"dir/file", "other/file"})
    with_file(at(name), O_CREAT | O_WRONLY, [](int fd) {
      return write(fd, "0123456789", 10) + fsetxattr(fd, "user.there", "v", 1, 0);
    });
  symlink("file", at("dir/link").c_str());
}

struct stat look(const Place& at, const std::string& name) {
  struct stat attributes {};
  lstat(at(name).c_str(), &attributes);
  return attributes;
}

// Until the clock that files get their times from has moved on.
void let_the_clock_tick(const Place& at) {
  int64_t last = 0;
  for (const std::string& name : kWatched)
    last = std::max(last, nanoseconds(look(at, name).st_ctim));
  timespec now = {};
  do {
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (nanoseconds(now) <= last);
}

// "dir: mtime ctime", for each that has other times than before the call.
std::string changed_by(const Place& at, const Call& call) {
  make(at);
  const timespec old[2] = {{kLongAgo, 0}, {kLongAgo, 0}};
  std::vector<struct stat> before;
  for (const std::string& name : kWatched) {
    utimensat(AT_FDCWD, at(name).c_str(), old, AT_SYMLINK_NOFOLLOW);
    before.push_back(look(at, name));
  }
  let_the_clock_tick(at);
  std::string text = outcome_text(call.run(at));
  for (size_t i = 0; i < kWatched.size(); ++i) {
    const struct stat after = look(at, kWatched[i]);
    if (after.st_ino != before[i].st_ino) continue;
    text += "\n" + kWatched[i] + ":";
    if (nanoseconds(after.st_mtim) != nanoseconds(before[i].st_mtim)) text += " mtime";
    if (nanoseconds(after.st_ctim) != nanoseconds(before[i].st_ctim)) text += " ctime";
  }
  return text;
}

Call on_file(const std::string& name, int flags, const std::function<int64_t(int)>& body) {
  return {name, [=](const Place& at) { return with_file(at("dir/file"), flags, body); }};
}
Call rename_call(const std::string& from, const std::string& to, unsigned flags = 0) {
  return {"rename " + from + " " + to + " " + std::to_string(flags), [=](const Place& at) {
            return renameat2(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(), flags);
          }};
}

// No truncation by path to the same size: what that changes depends on the filesystem.
const std::vector<Call>& calls() {
  static const std::vector<Call> all = {
      {"create",
       [](const Place& at) {
         return with_file(at("dir/new"), O_CREAT | O_WRONLY, [](int) { return 0; });
       }},
      {"open to create what is there",
       [](const Place& at) {
         return with_file(at("dir/file"), O_CREAT | O_WRONLY, [](int) { return 0; });
       }},
      {"mkdir", [](const Place& at) { return mkdir(at("dir/new").c_str(), 0755); }},
      {"mkfifo", [](const Place& at) { return mkfifo(at("dir/new").c_str(), 0644); }},
      {"symlink", [](const Place& at) { return symlink("x", at("dir/new").c_str()); }},
      {"link",
       [](const Place& at) { return link(at("dir/file").c_str(), at("other/new").c_str()); }},
      {"unlink", [](const Place& at) { return unlink(at("dir/file").c_str()); }},
      {"rmdir", [](const Place& at) { return rmdir(at("dir/sub").c_str()); }},
      {"a mkdir that fails", [](const Place& at) { return mkdir(at("dir/sub").c_str(), 0755); }},
      {"an rmdir that fails", [](const Place& at) { return rmdir(at("dir").c_str()); }},
      rename_call("dir/file", "dir/new"),
      rename_call("dir/file", "other/new"),
      rename_call("dir/file", "other/file"),
      rename_call("dir/sub", "other/sub"),
      rename_call("dir/file", "other/file", RENAME_EXCHANGE),
      rename_call("dir/file", "other/file", RENAME_NOREPLACE),
      {"chmod", [](const Place& at) { return chmod(at("dir/file").c_str(), 0600); }},
      {"chmod to the same", [](const Place& at) { return chmod(at("dir/file").c_str(), 0644); }},
      {"chmod of a directory", [](const Place& at) { return chmod(at("dir").c_str(), 0700); }},
      {"chown", [](const Place& at) { return chown(at("dir/file").c_str(), 1, 1); }},
      {"chown of nothing",
       [](const Place& at) {
         return chown(at("dir/file").c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(-1));
       }},
      {"lchown", [](const Place& at) { return lchown(at("dir/link").c_str(), 1, 1); }},
      {"set the time of access",
       [](const Place& at) {
         const timespec times[2] = {{kLongAgo + 5, 0}, {0, UTIME_OMIT}};
         return utimensat(AT_FDCWD, at("dir/file").c_str(), times, 0);
       }},
      {"set the times to now",
       [](const Place& at) { return utimensat(AT_FDCWD, at("dir/file").c_str(), nullptr, 0); }},
      {"set an attribute",
       [](const Place& at) { return setxattr(at("dir/file").c_str(), "user.x", "v", 1, 0); }},
      {"set an attribute of a directory",
       [](const Place& at) { return setxattr(at("dir").c_str(), "user.x", "v", 1, 0); }},
      {"remove an attribute",
       [](const Place& at) { return removexattr(at("dir/file").c_str(), "user.there"); }},
      {"truncate", [](const Place& at) { return truncate(at("dir/file").c_str(), 3); }},
      on_file("ftruncate", O_WRONLY, [](int fd) { return ftruncate(fd, 20); }),
      on_file("ftruncate to the same size", O_WRONLY, [](int fd) { return ftruncate(fd, 10); }),
      on_file("open and truncate", O_WRONLY | O_TRUNC, [](int) { return 0; }),
      on_file("write", O_WRONLY, [](int fd) { return write(fd, "x", 1); }),
      on_file("write nothing", O_WRONLY, [](int fd) { return write(fd, "x", 0); }),
      on_file("write and sync", O_WRONLY, [](int fd) { return write(fd, "x", 1) + fsync(fd); }),
      on_file("append", O_WRONLY | O_APPEND, [](int fd) { return write(fd, "x", 1); }),
      on_file("allocate", O_WRONLY, [](int fd) { return fallocate(fd, 0, 0, 100'000); }),
      on_file("allocate, keeping the size", O_WRONLY,
              [](int fd) { return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100'000); }),
      on_file(
          "punch a hole", O_WRONLY,
          [](int fd) { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5); }),
      on_file("copy a range", O_RDWR,
              [](int fd) {
                off_t in = 0;
                off_t out = 100;
                return copy_file_range(fd, &in, fd, &out, 10, 0);
              }),
      on_file("sync", O_WRONLY, [](int fd) { return fsync(fd); }),
  };
  return all;
}

class ConformanceTimes : public SideBySide {};

TEST_F(ConformanceTimes, OfChangesMoveAsInAPlainDirectory) {
  for (const Call& call : calls()) {
    const std::string expected = changed_by(plain_, call);
    EXPECT_EQ(changed_by(mount_, call), expected) << call.name;
  }
}

}  // namespace
}  // namespace walfs::test
