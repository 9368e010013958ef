// What an application may rely on, tried on the real mount.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "tests/support/mounted_directory.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace walfs::test {
namespace {

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

void write_file(const std::string& path, const std::string& text, mode_t mode = 0644) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  ASSERT_GE(file.fd, 0) << std::strerror(errno);
  ASSERT_EQ(write(file.fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

std::string read_file(const std::string& path) {
  File file(path, O_RDONLY);
  std::string text(1 << 16, '\0');
  ssize_t got = file.fd < 0 ? -1 : read(file.fd, text.data(), text.size());
  return got < 0 ? std::string("error ") + std::strerror(errno)
                 : text.substr(0, static_cast<size_t>(got));
}

struct stat stat_of(const std::string& path) {
  struct stat attributes = {};
  EXPECT_EQ(lstat(path.c_str(), &attributes), 0) << path << ": " << std::strerror(errno);
  return attributes;
}

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  DIR* stream = opendir(path.c_str());
  if (stream == nullptr) return {"error"};
  while (const dirent* item = readdir(stream)) names.insert(item->d_name);
  closedir(stream);
  return names;
}

void become(uid_t uid, gid_t gid) {
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 ||
      setresuid(uid, uid, uid) != 0)
    _exit(99);
}

class MountSemantics : public testing::Test {
 protected:
  MountedDirectory mounted_;
  std::string at(const std::string& name) { return mounted_.path(name); }
};

TEST_F(MountSemantics, AnUnlinkedFileStaysReadableWhileItIsOpen) {
  File file(at("gone"), O_RDWR | O_CREAT);
  ASSERT_EQ(write(file.fd, "hello", 5), 5);
  ASSERT_EQ(unlink(at("gone").c_str()), 0);
  ASSERT_EQ(fsync(file.fd), 0);
  char text[6] = {};
  EXPECT_EQ(pread(file.fd, text, 5, 0), 5);
  EXPECT_STREQ(text, "hello");
  EXPECT_EQ(pwrite(file.fd, "J", 1, 0), 1);
  struct stat attributes;
  ASSERT_EQ(fstat(file.fd, &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 0u);
  EXPECT_EQ(names_in(mounted_.source()).count("gone"), 0u);
}

TEST_F(MountSemantics, TwoProcessesAppendWithoutOverwritingEachOther) {
  constexpr int kLines = 2000;
  auto append = [&](char letter) {
    return [this, letter] {
      File file(at("log"), O_WRONLY | O_APPEND | O_CREAT);
      std::string line = std::string(15, letter) + "\n";
      for (int i = 0; i < kLines; ++i)
        if (write(file.fd, line.data(), line.size()) != 16) return 1;
      return 0;
    };
  };
  Child one(append('a'));
  Child two(append('b'));
  ASSERT_EQ(one.wait(), 0);
  ASSERT_EQ(two.wait(), 0);
  std::ifstream log(at("log"));
  int count_a = 0;
  int count_b = 0;
  for (std::string line; std::getline(log, line);) {
    count_a += line == std::string(15, 'a');
    count_b += line == std::string(15, 'b');
  }
  EXPECT_EQ(count_a, kLines);
  EXPECT_EQ(count_b, kLines);
}

TEST_F(MountSemantics, SharedMappingsOfTwoProcessesAreCoherent) {
  File file(at("shared"), O_RDWR | O_CREAT);
  ASSERT_EQ(ftruncate(file.fd, 4096), 0);
  void* map = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
  ASSERT_NE(map, MAP_FAILED);
  auto* cell = static_cast<std::atomic<int>*>(map);
  Child other([this] {
    File mine(at("shared"), O_RDWR);
    void* seen = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mine.fd, 0);
    if (seen == MAP_FAILED) return 1;
    auto* counter = static_cast<std::atomic<int>*>(seen);
    for (int i = 0; i < 1000; ++i) {
      while (counter->load() != 2 * i + 1) {
      }
      counter->store(2 * i + 2);
    }
    return 0;
  });
  bool answered = true;
  for (int i = 0; i < 1000 && answered; ++i) {
    cell->store(2 * i + 1);
    answered = wait_until([&] { return cell->load() == 2 * i + 2; });
  }
  EXPECT_TRUE(answered);
  EXPECT_EQ(other.wait(), 0);
  ASSERT_EQ(msync(map, 4096, MS_SYNC), 0);
  munmap(map, 4096);
  int stored = 0;
  File below(mounted_.source() + "/shared", O_RDONLY);
  EXPECT_EQ(pread(below.fd, &stored, sizeof stored, 0), static_cast<ssize_t>(sizeof stored));
  EXPECT_EQ(stored, 2000);
}

TEST_F(MountSemantics, ASparseFileGrowsBeyondFourGibibytes) {
  constexpr off_t kFar = 5LL << 30;
  {
    File file(at("sparse"), O_RDWR | O_CREAT);
    ASSERT_EQ(pwrite(file.fd, "end", 3, kFar), 3);
  }
  struct stat attributes = stat_of(at("sparse"));
  EXPECT_EQ(attributes.st_size, kFar + 3);
  EXPECT_LT(attributes.st_blocks, 1000);
  EXPECT_EQ(stat_of(mounted_.source() + "/sparse").st_size, kFar + 3);
  File file(at("sparse"), O_RDONLY);
  char text[4] = {};
  ASSERT_EQ(pread(file.fd, text, 3, kFar), 3);
  EXPECT_STREQ(text, "end");
  ASSERT_EQ(pread(file.fd, text, 3, 3LL << 30), 3);
  EXPECT_EQ(text[0], 0);
}

TEST_F(MountSemantics, NamesMayHave255BytesAndNotMore) {
  std::string longest(255, 'n');
  write_file(at(longest), "x");
  EXPECT_EQ(names_in(mounted_.path()).count(longest), 1u);
  EXPECT_EQ(open(at(longest + "n").c_str(), O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST_F(MountSemantics, OpenWithTruncEmptiesTheFileBelow) {
  write_file(at("full"), "content");
  { File file(at("full"), O_WRONLY | O_TRUNC); }
  EXPECT_EQ(stat_of(at("full")).st_size, 0);
  EXPECT_EQ(stat_of(mounted_.source() + "/full").st_size, 0);
}

TEST_F(MountSemantics, ASetgidDirectoryGivesItsGroupAway) {
  ASSERT_EQ(mkdir(at("team").c_str(), 0755), 0);
  ASSERT_EQ(chown(at("team").c_str(), 0, 1234), 0);
  ASSERT_EQ(chmod(at("team").c_str(), 02777), 0);
  ASSERT_EQ(run_in_child([&] {
              become(1000, 1000);
              File file(at("team/file"), O_WRONLY | O_CREAT);
              return file.fd >= 0 && mkdir(at("team/sub").c_str(), 0755) == 0 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(stat_of(at("team/file")).st_uid, 1000u);
  EXPECT_EQ(stat_of(at("team/file")).st_gid, 1234u);
  EXPECT_EQ(stat_of(at("team/sub")).st_gid, 1234u);
  EXPECT_NE(stat_of(at("team/sub")).st_mode & S_ISGID, 0u);
}

TEST_F(MountSemantics, NewFilesBelongToTheCallerAndFollowItsUmask) {
  ASSERT_EQ(chmod(mounted_.path().c_str(), 0777), 0);
  ASSERT_EQ(run_in_child([&] {
              become(1000, 1001);
              umask(027);
              File file(at("mine"), O_WRONLY | O_CREAT, 0666);
              return file.fd >= 0 && mkdir(at("dir").c_str(), 0777) == 0 &&
                             symlink("x", at("link").c_str()) == 0 &&
                             mkfifo(at("fifo").c_str(), 0666) == 0
                         ? 0
                         : 1;
            }),
            0);
  for (const char* name : {"mine", "dir", "link", "fifo"}) {
    EXPECT_EQ(stat_of(at(name)).st_uid, 1000u) << name;
    EXPECT_EQ(stat_of(at(name)).st_gid, 1001u) << name;
    EXPECT_EQ(stat_of(mounted_.source() + "/" + name).st_uid, 1000u) << name;
  }
  EXPECT_EQ(stat_of(at("mine")).st_mode & 07777, 0640u);
  EXPECT_EQ(stat_of(at("dir")).st_mode & 07777, 0750u);
}

TEST_F(MountSemantics, TheKernelChecksPermissionsOfOtherUsers) {
  write_file(at("secret"), "x", 0600);
  ASSERT_EQ(mkdir(at("closed").c_str(), 0700), 0);
  EXPECT_EQ(run_in_child([&] {
              become(1000, 1000);
              if (open(at("secret").c_str(), O_RDONLY) != -1 || errno != EACCES) return 1;
              if (open(at("new").c_str(), O_CREAT | O_WRONLY, 0644) != -1 || errno != EACCES)
                return 2;
              if (open(at("closed/x").c_str(), O_RDONLY) != -1 || errno != EACCES) return 3;
              if (unlink(at("secret").c_str()) != -1 || errno != EACCES) return 4;
              if (chmod(at("secret").c_str(), 0666) != -1 || errno != EPERM) return 5;
              return 0;
            }),
            0);
}

TEST_F(MountSemantics, ASupplementaryGroupIsEnoughToWriteInADirectory) {
  ASSERT_EQ(mkdir(at("group").c_str(), 0755), 0);
  ASSERT_EQ(chown(at("group").c_str(), 0, 4321), 0);
  ASSERT_EQ(chmod(at("group").c_str(), 0770), 0);
  EXPECT_EQ(run_in_child([&] {
              gid_t groups[] = {4321};
              if (syscall(SYS_setgroups, 1, groups) != 0 || setresgid(1000, 1000, 1000) != 0 ||
                  setresuid(1000, 1000, 1000) != 0)
                return 99;
              File file(at("group/file"), O_WRONLY | O_CREAT);
              return file.fd >= 0 ? 0 : errno;
            }),
            0);
  EXPECT_EQ(stat_of(at("group/file")).st_gid, 1000u);
}

TEST_F(MountSemantics, DefaultAclsApplyInsteadOfTheUmask) {
  ASSERT_EQ(mkdir(at("acl").c_str(), 0777), 0);
  Output set = run_program({"setfacl", "-d", "-m", "u:1000:rwx,g::rwx,m::rwx", at("acl")});
  ASSERT_EQ(set.status, 0) << set.text;
  ASSERT_EQ(run_in_child([&] {
              umask(077);
              File file(at("acl/file"), O_WRONLY | O_CREAT, 0666);
              return file.fd >= 0 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(stat_of(at("acl/file")).st_mode & 0070, 0060u);
  ASSERT_EQ(chmod(mounted_.path().c_str(), 0755), 0);
  EXPECT_EQ(run_in_child([&] {
              become(1000, 1000);
              File file(at("acl/file"), O_RDWR);
              return file.fd >= 0 ? 0 : errno;
            }),
            0);
}

TEST_F(MountSemantics, AWriteByAnotherUserClearsTheSuidBit) {
  write_file(at("tool"), "x");
  ASSERT_EQ(chmod(at("tool").c_str(), 06777), 0);
  ASSERT_EQ(run_in_child([&] {
              become(1000, 1000);
              File file(at("tool"), O_WRONLY);
              return write(file.fd, "y", 1) == 1 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(stat_of(at("tool")).st_mode & 07777, 0777u);
  EXPECT_EQ(stat_of(mounted_.source() + "/tool").st_mode & 07777, 0777u);
}

TEST_F(MountSemantics, ATruncationByAnotherUserClearsTheSuidBit) {
  for (bool by_open : {false, true}) {
    write_file(at("tool"), "text");
    ASSERT_EQ(chmod(at("tool").c_str(), 06777), 0);
    ASSERT_EQ(run_in_child([&] {
                become(1000, 1000);
                File file(at("tool"), by_open ? O_WRONLY | O_TRUNC : O_WRONLY);
                return by_open || ftruncate(file.fd, 1) == 0 ? 0 : 1;
              }),
              0);
    EXPECT_EQ(stat_of(at("tool")).st_mode & 07777, 0777u) << by_open;
  }
}

TEST_F(MountSemantics, AWriteByRootKeepsTheSuidBitAndChownClearsIt) {
  write_file(at("tool"), "x");
  ASSERT_EQ(chmod(at("tool").c_str(), 04755), 0);
  {
    File file(at("tool"), O_WRONLY);
    ASSERT_EQ(write(file.fd, "y", 1), 1);
  }
  EXPECT_EQ(stat_of(at("tool")).st_mode & 07777, 04755u);
  ASSERT_EQ(chown(at("tool").c_str(), 1000, 1000), 0);
  EXPECT_EQ(stat_of(at("tool")).st_mode & 07777, 0755u);
}

TEST_F(MountSemantics, RenameFlagsDoWhatTheySay) {
  write_file(at("a"), "A");
  write_file(at("b"), "B");
  EXPECT_EQ(renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_NOREPLACE), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(read_file(at("a")), "B");
  EXPECT_EQ(read_file(at("b")), "A");
  EXPECT_EQ(renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("c").c_str(), RENAME_NOREPLACE), 0);
  EXPECT_EQ(read_file(at("c")), "B");
}

TEST_F(MountSemantics, LinkCountsFollowEveryName) {
  write_file(at("one"), "x");
  ASSERT_EQ(link(at("one").c_str(), at("two").c_str()), 0);
  ASSERT_EQ(link(at("one").c_str(), at("three").c_str()), 0);
  EXPECT_EQ(stat_of(at("two")).st_nlink, 3u);
  ASSERT_EQ(unlink(at("one").c_str()), 0);
  EXPECT_EQ(stat_of(at("two")).st_nlink, 2u);
  write_file(at("other"), "y");
  ASSERT_EQ(rename(at("other").c_str(), at("three").c_str()), 0);
  EXPECT_EQ(stat_of(at("two")).st_nlink, 1u);
  ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(at("d/e").c_str(), 0755), 0);
  EXPECT_EQ(stat_of(at("d")).st_nlink, 3u);
}

TEST_F(MountSemantics, SeekNeverCallsUnwrittenDataAHole) {
  File file(at("holes"), O_RDWR | O_CREAT);
  ASSERT_EQ(ftruncate(file.fd, 1 << 20), 0);
  ASSERT_EQ(pwrite(file.fd, "x", 1, 512 << 10), 1);  // Only in the page cache as yet.
  EXPECT_LE(lseek(file.fd, 0, SEEK_DATA), 512 << 10);
  EXPECT_GT(lseek(file.fd, 512 << 10, SEEK_HOLE), 512 << 10);
  EXPECT_EQ(lseek(file.fd, 1 << 20, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST_F(MountSemantics, PunchingAHoleFreesSpaceAndReadsZeros) {
  write_file(at("holes"), std::string(1 << 16, 'x'));
  File file(at("holes"), O_RDWR);
  ASSERT_EQ(fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
  char text[4] = {1, 1, 1, 1};
  ASSERT_EQ(pread(file.fd, text, 4, 4096), 4);
  EXPECT_EQ(text[0], 0);
  EXPECT_EQ(stat_of(at("holes")).st_blocks, ((1 << 16) - 8192) / 512);
}

TEST_F(MountSemantics, TheStateDirectoryIsInvisibleAndCannotBeMade) {
  const std::string state = at(".walfs");
  EXPECT_EQ(names_in(mounted_.path()).count(".walfs"), 0u);
  EXPECT_EQ(names_in(mounted_.source()).count(".walfs"), 1u);
  struct stat attributes;
  EXPECT_EQ(lstat(state.c_str(), &attributes), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(open(state.c_str(), O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(mkdir(state.c_str(), 0755), -1);
  EXPECT_EQ(errno, EPERM);
  write_file(at("file"), "x");
  EXPECT_EQ(rename(at("file").c_str(), state.c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  ASSERT_EQ(mkdir(at("sub").c_str(), 0755), 0);
  EXPECT_EQ(mkdir(at("sub/.walfs").c_str(), 0755), 0) << "only the root's is ours";
}

TEST_F(MountSemantics, AnonymousFilesAreRefusedInsteadOfMadeWrongly) {
  EXPECT_EQ(open(mounted_.path().c_str(), O_TMPFILE | O_RDWR, 0600), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(MountSemantics, AttributesOfADirectoryFollowItsNames) {
  ASSERT_EQ(mkdir(at("dir").c_str(), 0755), 0);
  timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
  auto touched = [&] { return stat_of(at("dir")).st_mtim.tv_sec != 1000000000; };
  auto reset = [&] { utimensat(AT_FDCWD, at("dir").c_str(), old, 0); };
  reset();
  ASSERT_FALSE(touched());
  write_file(at("dir/file"), "x");
  EXPECT_TRUE(touched());
  reset();
  ASSERT_EQ(rename(at("dir/file").c_str(), at("file").c_str()), 0);
  EXPECT_TRUE(touched());
  reset();
  ASSERT_EQ(link(at("file").c_str(), at("dir/again").c_str()), 0);
  EXPECT_TRUE(touched());
  reset();
  ASSERT_EQ(unlink(at("dir/again").c_str()), 0);
  EXPECT_TRUE(touched());
}

TEST_F(MountSemantics, TheChangeTimeMovesWithALinkOfTheInode) {
  write_file(at("file"), "x");
  auto changed = [&] {
    auto time = stat_of(at("file")).st_ctim;
    return time.tv_sec * 1000000000 + time.tv_nsec;
  };
  auto before = changed();
  ASSERT_TRUE(wait_until([&] {
    unlink(at("other").c_str());
    return link(at("file").c_str(), at("other").c_str()) == 0 && changed() > before;
  }));
}

TEST_F(MountSemantics, TheModificationTimeOfAWriteReachesTheBackingFile) {
  write_file(at("file"), "x");
  timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, at("file").c_str(), old, 0), 0);
  File file(at("file"), O_WRONLY);
  ASSERT_EQ(write(file.fd, "y", 1), 1);
  auto seen = stat_of(at("file")).st_mtim;
  EXPECT_GT(seen.tv_sec, 1000000000);
  ASSERT_EQ(fsync(file.fd), 0);
  auto stored = stat_of(mounted_.source() + "/file").st_mtim;
  EXPECT_EQ(stored.tv_sec, seen.tv_sec);
  EXPECT_EQ(stored.tv_nsec, seen.tv_nsec);
}

TEST_F(MountSemantics, ExtendedAttributesKeepTheSizeProtocol) {
  write_file(at("file"), "x");
  const std::string path = at("file");
  EXPECT_EQ(getxattr(path.c_str(), "user.a", nullptr, 0), -1);
  EXPECT_EQ(errno, ENODATA);
  ASSERT_EQ(setxattr(path.c_str(), "user.a", "value", 5, XATTR_CREATE), 0);
  EXPECT_EQ(setxattr(path.c_str(), "user.a", "value", 5, XATTR_CREATE), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(getxattr(path.c_str(), "user.a", nullptr, 0), 5);
  char small[2];
  EXPECT_EQ(getxattr(path.c_str(), "user.a", small, sizeof small), -1);
  EXPECT_EQ(errno, ERANGE);
  char names[64] = {};
  EXPECT_EQ(listxattr(path.c_str(), names, sizeof names), 7);
  EXPECT_STREQ(names, "user.a");
  EXPECT_EQ(removexattr(path.c_str(), "user.a"), 0);
  EXPECT_EQ(listxattr(path.c_str(), nullptr, 0), 0);
}

TEST_F(MountSemantics, LargeDirectoriesAreListedWholeAndRemovedWhole) {
  constexpr int kFiles = 3000;
  ASSERT_EQ(mkdir(at("many").c_str(), 0755), 0);
  for (int i = 0; i < kFiles; ++i) {
    File file(at("many/a-name-of-some-length-" + std::to_string(i)), O_CREAT | O_WRONLY);
    ASSERT_GE(file.fd, 0);
  }
  EXPECT_EQ(names_in(at("many")).size(), kFiles + 2u);
  std::error_code error;
  EXPECT_EQ(std::filesystem::remove_all(at("many"), error), kFiles + 1u);
  EXPECT_FALSE(error) << error.message();
}

TEST_F(MountSemantics, CopyFileRangeCopiesWhatIsOnlyInThePageCache) {
  File from(at("from"), O_RDWR | O_CREAT);
  File to(at("to"), O_RDWR | O_CREAT);
  ASSERT_EQ(write(from.fd, "0123456789", 10), 10);
  off_t in = 2;
  off_t out = 4096;
  ASSERT_EQ(copy_file_range(from.fd, &in, to.fd, &out, 5, 0), 5);
  char text[6] = {};
  ASSERT_EQ(pread(to.fd, text, 5, 4096), 5);
  EXPECT_STREQ(text, "23456");
}

TEST(MountErrors, AFullDiskIsReported) {
  TemporaryDirectory place;
  std::string small = place.path() + "/small";
  ASSERT_EQ(mkdir(small.c_str(), 0755), 0);
  ASSERT_EQ(mount("none", small.c_str(), "tmpfs", 0, "size=2m"), 0);
  {
    MountedDirectory mounted({}, Seconds(60), small);
    File file(mounted.path("big"), O_RDWR | O_CREAT);
    ASSERT_GE(file.fd, 0);
    std::string data(1 << 20, 'x');
    bool written = true;
    for (int i = 0; i < 8 && written; ++i)
      written = write(file.fd, data.data(), data.size()) == static_cast<ssize_t>(data.size());
    int error = written ? (fsync(file.fd) == 0 ? 0 : errno) : errno;
    EXPECT_EQ(error, ENOSPC);
    EXPECT_EQ(fallocate(file.fd, 0, 0, 16 << 20), -1);
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(unlink(mounted.path("big").c_str()), 0);
  }
  umount2(small.c_str(), MNT_DETACH);
}

int insert_rows(const std::string& path, int count) {
  sqlite3* database = nullptr;
  if (sqlite3_open(path.c_str(), &database) != SQLITE_OK) return 1;
  sqlite3_busy_timeout(database, 20000);
  int failures = 0;
  for (int i = 0; i < count; ++i)
    failures += sqlite3_exec(database, "INSERT INTO t VALUES (randomblob(100))", nullptr, nullptr,
                             nullptr) != SQLITE_OK;
  sqlite3_close(database);
  return failures == 0 ? 0 : 2;
}

class SqliteOnTheMount : public testing::TestWithParam<const char*> {};

TEST_P(SqliteOnTheMount, TwoProcessesWriteOneDatabase) {
  MountedDirectory mounted;
  const std::string path = mounted.path("app.db");
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  std::string schema =
      std::string("PRAGMA journal_mode=") + GetParam() + "; CREATE TABLE t (data);";
  ASSERT_EQ(sqlite3_exec(database, schema.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
  Child one([&] { return insert_rows(path, 200); });
  Child two([&] { return insert_rows(path, 200); });
  EXPECT_EQ(one.wait(Seconds(60)), 0);
  EXPECT_EQ(two.wait(Seconds(60)), 0);
  mounted.unmount();
  // What the backing directory holds after the unmount is the whole truth.
  ASSERT_EQ(sqlite3_open((mounted.source() + "/app.db").c_str(), &database), SQLITE_OK);
  std::string result;
  auto take = [](void* out, int, char** values, char**) {
    *static_cast<std::string*>(out) += std::string(values[0]) + " ";
    return 0;
  };
  sqlite3_exec(database, "SELECT count(*) FROM t; PRAGMA integrity_check;", take, &result, nullptr);
  sqlite3_close(database);
  EXPECT_EQ(result, "400 ok ");
}

INSTANTIATE_TEST_SUITE_P(Modes, SqliteOnTheMount,
                         testing::Values("WAL", "DELETE", "TRUNCATE", "PERSIST"));

}  // namespace
}  // namespace walfs::test
