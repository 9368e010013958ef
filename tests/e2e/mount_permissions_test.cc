// Who may do what on the mount, and to whom new files belong.
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

namespace walfs::test {
namespace {

class MountPermissions : public MountSemantics {};

TEST_F(MountPermissions, ASetgidDirectoryGivesItsGroupAway) {
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

TEST_F(MountPermissions, NewFilesBelongToTheCallerAndFollowItsUmask) {
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

TEST_F(MountPermissions, TheKernelChecksPermissionsOfOtherUsers) {
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

TEST_F(MountPermissions, ASupplementaryGroupIsEnoughToWriteInADirectory) {
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

TEST_F(MountPermissions, DefaultAclsApplyInsteadOfTheUmask) {
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

TEST_F(MountPermissions, AWriteByAnotherUserClearsTheSuidBit) {
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

TEST_F(MountPermissions, ATruncationByAnotherUserClearsTheSuidBit) {
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

TEST_F(MountPermissions, AWriteByRootKeepsTheSuidBitAndChownClearsIt) {
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

}  // namespace
}  // namespace walfs::test
