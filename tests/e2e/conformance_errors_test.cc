// Calls that fail, and how: every call on paths of every shape, in the mount and in a plain
// directory.
#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "tests/support/side_by_side.h"

namespace walfs::test {
namespace {

const Caller kRoot = {"root", 0, 0, {}};
const Caller kUser = {"a user", 1000, 1000, {}};

void make_socket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  close(fd);
}

// One of each, which everybody may change.
void make(const Place& at) {
  at.clear();
  const auto file = [&](const std::string& name) {
    close(open(at(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
    chmod(at(name).c_str(), 0666);
  };
  for (const char* name : {"", "dir", "full", "closed"}) {
    mkdir(at(name).c_str(), 0777);
    chmod(at(name).c_str(), 0777);
  }
  file("file");
  file("full/file");
  file("closed/file");
  mkdir(at("full/dir").c_str(), 0777);
  chmod(at("full/dir").c_str(), 0777);
  chmod(at("closed").c_str(), 0600);
  symlink("file", at("to-file").c_str());
  symlink("dir", at("to-dir").c_str());
  symlink("missing", at("to-nothing").c_str());
  symlink("loop", at("loop").c_str());
  mkfifo(at("fifo").c_str(), 0666);
  make_socket(at("socket"));
}

const std::vector<std::string>& paths() {
  static const std::vector<std::string> all = {
      "file",
      "file/",
      "file/x",
      "file/.",
      "dir",
      "dir/",
      "dir/.",
      "dir/..",
      "full",
      "full/",
      "full/file",
      "full/dir",
      "full/..",
      "missing",
      "missing/",
      "missing/x",
      "missing/.",
      "to-file",
      "to-file/",
      "to-dir",
      "to-dir/",
      "to-dir/x",
      "to-nothing",
      "to-nothing/",
      "loop",
      "loop/",
      "loop/x",
      "closed",
      "closed/file",
      "closed/x",
      "fifo",
      "fifo/",
      "socket",
      "dir/../file",
      ".",
      "..//place",
      std::string(255, 'n'),
      std::string(256, 'n'),
      "dir/" + std::string(256, 'n') + "/x",
      std::string(4200, '/') + "x",
  };
  return all;
}

std::vector<Call> calls_with(const std::string& path) {
  std::vector<Call> calls;
  const auto add = [&](const std::string& name, const std::function<int64_t(const char*)>& call) {
    calls.push_back(
        {name + " " + path.substr(0, 20), [=](const Place& at) { return call(at(path).c_str()); }});
  };
  for (const int flags :
       {O_RDONLY, O_RDWR, O_RDONLY | O_NOFOLLOW, O_RDONLY | O_DIRECTORY,
        O_RDONLY | O_DIRECTORY | O_NOFOLLOW, O_PATH | O_NOFOLLOW, O_WRONLY | O_TRUNC,
        O_CREAT | O_WRONLY, O_CREAT | O_WRONLY | O_EXCL, O_CREAT | O_RDONLY | O_NOFOLLOW,
        O_CREAT | O_RDONLY | O_DIRECTORY, O_TMPFILE | O_RDWR, O_RDONLY | O_DIRECT}) {
    std::ostringstream text;
    text << "open " << std::oct << flags;
    add(text.str(),
        [=](const char* name) { return with_file(name, flags, [](int) { return 0; }); });
  }
  add("mkdir", [](const char* name) { return mkdir(name, 0777); });
  add("mkfifo", [](const char* name) { return mkfifo(name, 0666); });
  add("mknod", [](const char* name) { return mknod(name, S_IFCHR | 0666, makedev(1, 3)); });
  add("symlink", [](const char* name) { return symlink("file", name); });
  add("rmdir", [](const char* name) { return rmdir(name); });
  add("unlink", [](const char* name) { return unlink(name); });
  add("chmod", [](const char* name) { return chmod(name, 0600); });
  add("chown", [](const char* name) { return chown(name, 1000, 1000); });
  add("lchown", [](const char* name) { return lchown(name, 1000, 1000); });
  add("truncate", [](const char* name) { return truncate(name, 10); });
  add("truncate below zero", [](const char* name) { return truncate(name, -1); });
  add("utimensat", [](const char* name) { return utimensat(AT_FDCWD, name, nullptr, 0); });
  add("utimensat without following",
      [](const char* name) { return utimensat(AT_FDCWD, name, nullptr, AT_SYMLINK_NOFOLLOW); });
  add("setxattr", [](const char* name) { return setxattr(name, "user.x", "v", 1, 0); });
  add("setxattr of nothing", [](const char* name) { return setxattr(name, "x", "v", 1, 0); });
  add("removexattr", [](const char* name) { return removexattr(name, "user.none"); });
  add("readlink", [](const char* name) {
    char target[100];
    return readlink(name, target, sizeof target);
  });
  add("access", [](const char* name) { return faccessat(AT_FDCWD, name, R_OK, AT_EACCESS); });
  add("stat", [](const char* name) {
    struct stat attributes {};
    return stat(name, &attributes);
  });
  add("lstat", [](const char* name) {
    struct stat attributes {};
    return lstat(name, &attributes);
  });
  return calls;
}

std::vector<Call> calls_with_two(const std::string& from, const std::string& to) {
  std::vector<Call> calls;
  const std::string names = " " + from.substr(0, 20) + " " + to.substr(0, 20);
  for (const unsigned flags : {0, RENAME_NOREPLACE, RENAME_EXCHANGE})
    calls.push_back({"rename" + names + " flags " + std::to_string(flags), [=](const Place& at) {
                       return renameat2(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(),
                                        flags);
                     }});
  for (const int flags : {0, AT_SYMLINK_FOLLOW})
    calls.push_back({"link" + names + " flags " + std::to_string(flags), [=](const Place& at) {
                       return linkat(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(), flags);
                     }});
  return calls;
}

class ConformanceErrors : public SideBySide {
 protected:
  int all(const std::vector<Call>& calls) {
    int succeeded = 0;
    for (const Caller* caller : {&kRoot, &kUser})
      for (const Call& call : calls) succeeded += same("one of each", *caller, make, call);
    return succeeded;
  }
};

TEST_F(ConformanceErrors, OfOnePathAreThoseOfAPlainDirectory) {
  int succeeded = 0;
  for (const std::string& path : paths()) succeeded += all(calls_with(path));
  EXPECT_GT(succeeded, calls_ / 8) << "of " << calls_;
  EXPECT_LT(succeeded, calls_ / 2) << "of " << calls_;
}

TEST_F(ConformanceErrors, OfTwoPathsAreThoseOfAPlainDirectory) {
  static const std::vector<std::string> some = {"file",
                                                "file/",
                                                "dir",
                                                "dir/",
                                                "full",
                                                "full/file",
                                                "full/dir",
                                                "missing",
                                                "to-file",
                                                "to-dir",
                                                "loop",
                                                "closed",
                                                "missing/x",
                                                "file/x",
                                                "fifo",
                                                "to-nothing",
                                                ".",
                                                "full/dir/under",
                                                std::string(256, 'n')};
  int succeeded = 0;
  for (const std::string& from : some)
    for (const std::string& to : some) succeeded += all(calls_with_two(from, to));
  EXPECT_GT(succeeded, calls_ / 8) << "of " << calls_;
  EXPECT_LT(succeeded, calls_ / 2) << "of " << calls_;
}

// Not between a file of the mount and one of another filesystem.
TEST_F(ConformanceErrors, NoNameMovesToAnotherFilesystem) {
  const std::string inside = mounted_.path("file");
  const std::string outside = beside_.path() + "/file";
  for (const std::string& path : {inside, outside})
    close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  for (const auto& [from, to] : {std::pair(inside, outside), std::pair(outside, inside)}) {
    EXPECT_EQ(rename(from.c_str(), (to + "2").c_str()), -1);
    EXPECT_EQ(errno, EXDEV);
    EXPECT_EQ(link(from.c_str(), (to + "2").c_str()), -1);
    EXPECT_EQ(errno, EXDEV);
  }
}

// What is left of files and directories that have no name any more, while they are open.
TEST_F(ConformanceErrors, OfWhatIsRemovedAreThoseOfAPlainDirectory) {
  const auto on_removed_file = [](const char* name, const std::function<int64_t(int)>& body) {
    return Call{name, [=](const Place& at) {
                  return with_file(at("file"), O_RDWR, [&](int fd) -> int64_t {
                    return unlink(at("file").c_str()) != 0 ? -1 : body(fd);
                  });
                }};
  };
  const auto on_removed_directory = [](const char* name, const std::function<int64_t(int)>& body) {
    return Call{name, [=](const Place& at) {
                  return with_file(at("dir"), O_RDONLY, [&](int fd) -> int64_t {
                    return rmdir(at("dir").c_str()) != 0 ? -1 : body(fd);
                  });
                }};
  };
  const auto links = [](int fd) -> int64_t {
    struct stat attributes {};
    return fstat(fd, &attributes) != 0 ? -1 : static_cast<int64_t>(attributes.st_nlink);
  };
  const auto by_descriptor = [](int fd) { return "/proc/self/fd/" + std::to_string(fd); };
  const int succeeded = all({
      on_removed_file("count the links", links),
      on_removed_file("write", [](int fd) { return pwrite(fd, "text", 4, 8192); }),
      on_removed_file("truncate", [](int fd) { return ftruncate(fd, 100); }),
      on_removed_file("sync", [](int fd) { return fsync(fd); }),
      on_removed_file("chmod", [](int fd) { return fchmod(fd, 0640); }),
      on_removed_file("set times", [](int fd) { return futimens(fd, nullptr); }),
      on_removed_file("set an attribute",
                      [](int fd) { return fsetxattr(fd, "user.x", "v", 1, 0); }),
      on_removed_file(
          "open again",
          [=](int fd) { return with_file(by_descriptor(fd), O_RDWR, [](int) { return 0; }); }),
      on_removed_file("link again",
                      [=](int fd) {
                        return linkat(AT_FDCWD, by_descriptor(fd).c_str(), fd, "x",
                                      AT_SYMLINK_FOLLOW);
                      }),
      on_removed_directory("count the links", links),
      on_removed_directory("create in it",
                           [](int fd) { return openat(fd, "x", O_CREAT | O_WRONLY, 0600); }),
      on_removed_directory("make a directory in it", [](int fd) { return mkdirat(fd, "x", 0700); }),
      on_removed_directory("make a link in it", [](int fd) { return symlinkat("x", fd, "x"); }),
      on_removed_directory("look in it",
                           [](int fd) {
                             struct stat attributes {};
                             return fstatat(fd, "x", &attributes, 0);
                           }),
      on_removed_directory("look at its parent",
                           [](int fd) {
                             struct stat attributes {};
                             return fstatat(fd, "..", &attributes, 0);
                           }),
      on_removed_directory("list it",
                           [](int fd) -> int64_t {
                             DIR* stream = fdopendir(dup(fd));
                             if (stream == nullptr) return -1;
                             int64_t count = 0;
                             while (readdir(stream) != nullptr) ++count;
                             closedir(stream);
                             return count;
                           }),
      on_removed_directory("chmod", [](int fd) { return fchmod(fd, 0700); }),
      on_removed_directory("sync", [](int fd) { return fsync(fd); }),
  });
  EXPECT_GT(succeeded, calls_ / 4) << "of " << calls_;
}

}  // namespace
}  // namespace walfs::test
