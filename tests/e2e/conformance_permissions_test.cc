// Who may do what, to whom it belongs afterwards, and which bits of the mode are left: every call
// by every caller in directories and on files of every kind, in the mount and in a plain directory.
#include <sys/xattr.h>

#include "tests/support/side_by_side.h"

namespace walfs::test {
namespace {

constexpr gid_t kShared = 2000;

const std::vector<Caller>& callers() {
  static const std::vector<Caller> all = {{"root", 0, 0, {}},
                                          {"the owner", 1000, 1000, {kShared}},
                                          {"a member of the group", 1001, 1001, {kShared}},
                                          {"somebody else", 1002, 1002, {}}};
  return all;
}

struct Kind {
  mode_t mode;
  uid_t uid;
  gid_t gid;
};

// Of the directory d, and of the file d/f and the directory d/e. No file that is set-group-id
// without being executable by its group: whether the bit goes depends on the caller's groups, of
// which a server is not told.
const std::vector<Kind> kDirectories = {
    {0755, 1000, kShared}, {0775, 0, kShared},     {01777, 0, 0},      {01777, 1001, 1001},
    {03775, 0, kShared},   {02777, 1002, kShared}, {0711, 1000, 1000}, {0555, 1000, kShared}};
const std::vector<Kind> kFiles = {{0644, 1000, 1000},     {0664, 1002, kShared},
                                  {06777, 1000, kShared}, {02776, 1001, 1001},
                                  {04711, 0, 0},          {0, 1000, 1000}};

void make(const Place& at, const Kind& directory, const Kind& file) {
  at.clear();
  mkdir(at("d").c_str(), 0755);
  mkdir(at("d/e").c_str(), 0755);
  close(open(at("d/f").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  truncate(at("d/f").c_str(), 5000);
  symlink("f", at("d/s").c_str());
  // The place for what moves in and out.
  mkdir(at("out").c_str(), 0777);
  chmod(at("out").c_str(), 0777);
  close(open(at("out/x").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  chmod(at("out/x").c_str(), 0666);
  mkdir(at("out/y").c_str(), 0777);
  chmod(at("out/y").c_str(), 0777);
  for (const char* name : {"d/f", "d/e"}) {
    chown(at(name).c_str(), file.uid, file.gid);
    chmod(at(name).c_str(), file.mode);
  }
  lchown(at("d/s").c_str(), file.uid, file.gid);
  chown(at("d").c_str(), directory.uid, directory.gid);
  chmod(at("d").c_str(), directory.mode);
}

Call rename_call(const std::string& from, const std::string& to, unsigned flags = 0) {
  return {"rename " + from + " " + to + " " + std::to_string(flags), [=](const Place& at) {
            return renameat2(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(), flags);
          }};
}
Call link_call(const std::string& from, const std::string& to) {
  return {"link " + from + " " + to,
          [=](const Place& at) { return link(at(from).c_str(), at(to).c_str()); }};
}

std::vector<Call> calls_on_names() {
  return {
      {"unlink", [](const Place& at) { return unlink(at("d/f").c_str()); }},
      {"unlink a symlink", [](const Place& at) { return unlink(at("d/s").c_str()); }},
      {"rmdir", [](const Place& at) { return rmdir(at("d/e").c_str()); }},
      rename_call("d/f", "d/g"),
      rename_call("d/f", "out/f"),
      rename_call("d/f", "out/x"),
      rename_call("out/x", "d/x"),
      rename_call("out/x", "d/f"),
      rename_call("d/e", "out/e"),
      rename_call("out/y", "d/e"),
      rename_call("d/f", "d/g", RENAME_NOREPLACE),
      rename_call("d/f", "out/x", RENAME_EXCHANGE),
      rename_call("d/e", "out/y", RENAME_EXCHANGE),
      link_call("d/f", "out/l"),
      link_call("out/x", "d/l"),
      {"symlink", [](const Place& at) { return symlink("f", at("d/n").c_str()); }},
      {"mkdir", [](const Place& at) { return mkdir(at("d/n").c_str(), 0777); }},
      {"mkdir with sgid", [](const Place& at) { return mkdir(at("d/n").c_str(), 03777); }},
      {"mkfifo", [](const Place& at) { return mkfifo(at("d/n").c_str(), 0666); }},
      {"mknod of a file",
       [](const Place& at) { return mknod(at("d/n").c_str(), S_IFREG | 06755, 0); }},
      {"mknod of a device",
       [](const Place& at) { return mknod(at("d/n").c_str(), S_IFCHR | 0666, makedev(1, 3)); }},
      {"list",
       [](const Place& at) {
         return with_file(at("d"), O_RDONLY | O_DIRECTORY, [](int) { return 0; });
       }},
      {"look",
       [](const Place& at) {
         struct stat attributes {};
         return stat(at("d/s").c_str(), &attributes);
       }},
  };
}

Call open_call(const std::string& name, int flags, mode_t mode = 0666) {
  std::ostringstream text;
  text << "open " << name << " " << std::oct << flags << " " << mode;
  return {text.str(), [=](const Place& at) {
            return with_file(
                at(name), flags, [](int) { return 0; }, mode);
          }};
}

std::vector<Call> calls_that_open() {
  std::vector<Call> calls = {
      open_call("d/n", O_CREAT | O_WRONLY),
      open_call("d/n", O_CREAT | O_RDONLY, 0),
      open_call("d/n", O_CREAT | O_RDWR | O_EXCL, 06777),
      open_call("d/n", O_CREAT | O_RDWR, 02644),
      open_call("d/f", O_CREAT | O_WRONLY),
      open_call("d/f", O_CREAT | O_WRONLY | O_EXCL),
      open_call("d", O_TMPFILE | O_RDWR),
      open_call("d/f", O_PATH),
  };
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_TRUNC,
                          O_WRONLY | O_APPEND, O_RDONLY | O_NOATIME})
    for (const char* name : {"d/f", "d/s"}) calls.push_back(open_call(name, flags));
  return calls;
}

Call file_call(const std::string& name, int flags, const std::function<int64_t(int)>& body) {
  return {name, [=](const Place& at) { return with_file(at("d/f"), flags, body); }};
}

// What clears the bits of set-user-id and set-group-id, and what does not.
std::vector<Call> calls_on_data() {
  return {
      file_call("write", O_WRONLY, [](int fd) { return write(fd, "x", 1); }),
      file_call("write nothing", O_WRONLY, [](int fd) { return write(fd, "x", 0); }),
      file_call("write directly", O_WRONLY | O_DIRECT,
                [](int fd) {
                  alignas(4096) static const char page[4096] = {};
                  return write(fd, page, sizeof page);
                }),
      file_call("append", O_WRONLY | O_APPEND, [](int fd) { return write(fd, "x", 1); }),
      file_call("ftruncate", O_WRONLY, [](int fd) { return ftruncate(fd, 10); }),
      file_call("ftruncate to the same size", O_WRONLY, [](int fd) { return ftruncate(fd, 5000); }),
      {"truncate", [](const Place& at) { return truncate(at("d/f").c_str(), 10); }},
      file_call("allocate", O_WRONLY, [](int fd) { return fallocate(fd, 0, 0, 10000); }),
      file_call("punch a hole", O_WRONLY,
                [](int fd) {
                  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
                }),
      file_call("zero a range", O_WRONLY,
                [](int fd) { return fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096); }),
      file_call("copy a range", O_RDWR,
                [](int fd) {
                  off_t in = 0;
                  off_t out = 4096;
                  return copy_file_range(fd, &in, fd, &out, 100, 0);
                }),
      file_call("read", O_RDONLY,
                [](int fd) {
                  char byte = 0;
                  return read(fd, &byte, 1);
                }),
  };
}

Call chmod_call(const std::string& name, mode_t mode) {
  std::ostringstream text;
  text << "chmod " << name << " " << std::oct << mode;
  return {text.str(), [=](const Place& at) { return chmod(at(name).c_str(), mode); }};
}
Call chown_call(const std::string& name, uid_t uid, gid_t gid) {
  return {"chown " + name + " " + std::to_string(static_cast<int>(uid)) + ":" +
              std::to_string(static_cast<int>(gid)),
          [=](const Place& at) { return lchown(at(name).c_str(), uid, gid); }};
}
Call times_call(const std::string& name, const timespec& access, const timespec& modification) {
  return {"utimensat " + name + " " + std::to_string(access.tv_nsec) + " " +
              std::to_string(modification.tv_nsec),
          [=](const Place& at) {
            const timespec times[2] = {access, modification};
            return utimensat(AT_FDCWD, at(name).c_str(), times, AT_SYMLINK_NOFOLLOW);
          }};
}
Call xattr_call(const std::string& name, const char* attribute) {
  return {"setxattr " + name + " " + attribute,
          [=](const Place& at) { return lsetxattr(at(name).c_str(), attribute, "value", 5, 0); }};
}
Call access_call(const std::string& name, int mode) {
  return {"access " + name + " " + std::to_string(mode),
          [=](const Place& at) { return faccessat(AT_FDCWD, at(name).c_str(), mode, AT_EACCESS); }};
}

std::vector<Call> calls_on_attributes() {
  std::vector<Call> calls;
  constexpr auto kSameUser = static_cast<uid_t>(-1);
  constexpr auto kSameGroup = static_cast<gid_t>(-1);
  const timespec given = {1000000000, 5};
  const timespec now = {0, UTIME_NOW};
  const timespec omitted = {0, UTIME_OMIT};
  for (const char* name : {"d/f", "d/e", "d"}) {
    for (const mode_t mode : {0600, 04755, 02755, 07777}) calls.push_back(chmod_call(name, mode));
    // Not of neither, of which a server is not told: the bits of the mode stay.
    for (const auto& [uid, gid] :
         {std::pair(kSameUser, gid_t{1000}), std::pair(kSameUser, kShared),
          std::pair(uid_t{1000}, kSameGroup), std::pair(uid_t{1000}, kShared),
          std::pair(uid_t{1002}, kSameGroup)})
      calls.push_back(chown_call(name, uid, gid));
    calls.push_back(times_call(name, now, now));
    calls.push_back(times_call(name, given, given));
    calls.push_back(times_call(name, omitted, now));
    calls.push_back(times_call(name, omitted, given));
    calls.push_back(times_call(name, omitted, omitted));
    calls.push_back(xattr_call(name, "user.x"));
    calls.push_back(xattr_call(name, "trusted.x"));
    for (const int mode : {R_OK, W_OK, X_OK}) calls.push_back(access_call(name, mode));
  }
  calls.push_back(chown_call("d/s", 1000, kShared));
  calls.push_back(times_call("d/s", now, now));
  calls.push_back(xattr_call("d/s", "user.x"));
  return calls;
}

class ConformancePermissions : public SideBySide {
 protected:
  // Every call by every caller on so many pairs that each kind is in one; or on all of them.
  void all(const std::vector<Call>& calls) {
    const bool all_pairs = std::getenv("WALFS_TEST_ALL_PAIRS") != nullptr;
    int succeeded = 0;
    for (size_t i = 0; i < kDirectories.size(); ++i) {
      for (size_t j = all_pairs ? 0 : i % kFiles.size(); j < kFiles.size();
           j += all_pairs ? 1 : kFiles.size()) {
        const Kind& directory = kDirectories[i];
        const Kind& file = kFiles[j];
        std::ostringstream title;
        title << "directory " << std::oct << directory.mode << std::dec << " of " << directory.uid
              << ":" << directory.gid << ", file " << std::oct << file.mode << std::dec << " of "
              << file.uid << ":" << file.gid;
        for (const Caller& caller : callers())
          for (const Call& call : calls)
            succeeded += same(
                title.str(), caller, [&](const Place& at) { make(at, directory, file); }, call);
      }
    }
    EXPECT_GT(succeeded, calls_ / 4) << "of " << calls_;
    EXPECT_LT(succeeded, calls_ * 7 / 8) << "of " << calls_;
  }
};

TEST_F(ConformancePermissions, OnNamesAreThoseOfAPlainDirectory) {
  all(calls_on_names());
}
TEST_F(ConformancePermissions, OfOpeningAreThoseOfAPlainDirectory) {
  all(calls_that_open());
}
TEST_F(ConformancePermissions, OnDataAreThoseOfAPlainDirectory) {
  all(calls_on_data());
}
TEST_F(ConformancePermissions, OnAttributesAreThoseOfAPlainDirectory) {
  all(calls_on_attributes());
}

}  // namespace
}  // namespace walfs::test
