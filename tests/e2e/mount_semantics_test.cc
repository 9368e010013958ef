// What an application may rely on, tried on the real mount.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/support/mount_fixture.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace walfs::test {
namespace {

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

TEST_F(MountSemantics, AFileWithoutANameGetsOneLater) {
  ASSERT_EQ(mkdir(at("dir").c_str(), 0755), 0);
  const int fd = open(at("dir").c_str(), O_TMPFILE | O_RDWR, 0640);
  ASSERT_GE(fd, 0) << std::strerror(errno);
  struct stat attributes;
  ASSERT_EQ(fstat(fd, &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 0u);
  EXPECT_EQ(attributes.st_mode, S_IFREG | 0640u);
  ASSERT_EQ(write(fd, "content", 7), 7);
  EXPECT_TRUE(std::filesystem::is_empty(at("dir")));
  const std::string alias = "/proc/self/fd/" + std::to_string(fd);
  ASSERT_EQ(linkat(AT_FDCWD, alias.c_str(), AT_FDCWD, at("dir/name").c_str(), AT_SYMLINK_FOLLOW), 0)
      << std::strerror(errno);
  EXPECT_EQ(read_file(at("dir/name")), "content");
  EXPECT_EQ(stat_of(at("dir/name")).st_nlink, 1u);
  close(fd);
}

TEST_F(MountSemantics, AFileWithoutANameThatMustNotGetOneGetsNone) {
  const int fd = open(mounted_.path().c_str(), O_TMPFILE | O_RDWR | O_EXCL, 0600);
  ASSERT_GE(fd, 0) << std::strerror(errno);
  const std::string alias = "/proc/self/fd/" + std::to_string(fd);
  EXPECT_EQ(linkat(AT_FDCWD, alias.c_str(), AT_FDCWD, at("name").c_str(), AT_SYMLINK_FOLLOW), -1);
  EXPECT_EQ(errno, ENOENT);
  close(fd);
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

}  // namespace
}  // namespace walfs::test
