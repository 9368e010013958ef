// SQLite on the mount, and a disk that is full beneath it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
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
