// What cannot be read is not empty: it is in no point until it can be, nothing else waits for it,
// and it is told (I1, I5).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

// No file can be opened meanwhile.
class NoDescriptors {
 public:
  NoDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit none = before_;
    none.rlim_cur = 0;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
};

// With a segment that is open, so that points can be made though no file can be opened.
void open_segment(TrackedDirectory& directory) {
  directory.mount().put("first", "1");
  ASSERT_TRUE(directory.cut(true));
}

bool names(const std::optional<Error>& error, const std::string& path) {
  return error && error->message.find("cannot read " + path + ": ") == 0;
}

TEST(Unreadable, FilesAreInNoPointUntilTheyCanBeRead) {
  TrackedDirectory directory;
  open_segment(directory);
  directory.mount().put("kept", std::string(20000, 'k'));
  Cut instant = directory.take_instant();
  instant.force = true;
  {
    const NoDescriptors none;
    directory.cut(instant);
    EXPECT_TRUE(directory.cutter().unsettled());
    EXPECT_TRUE(names(directory.cutter().unreadable(), "kept"));
  }
  directory.seal();
  EXPECT_TRUE(directory.restored_tree(directory.log().sealed())["kept"].content.empty());
  directory.sync();
  EXPECT_FALSE(directory.cutter().unreadable());
  directory.expect_all_restored();
}

TEST(Unreadable, FilesKeepWhatTheReplicaHasOfThem) {
  TrackedDirectory directory;
  directory.mount().put("kept", std::string(50000, 'k'));
  directory.restart();
  open_segment(directory);
  const NodeId node = directory.mount().open("kept");
  directory.mount().write(node, 17000, "changed");
  {
    const NoDescriptors none;
    directory.cut(true);
    directory.cut(true);
  }
  directory.seal();
  EXPECT_EQ(directory.restored_tree(directory.log().sealed())["kept"].content,
            std::string(50000, 'k'));
  directory.mount().truncate(node, 18000);
  directory.mount().close(node);
  directory.sync();
  directory.expect_all_restored();
}

// Zeros are what a read that fails could be taken for.
TEST(Unreadable, FilesAreComparedWhenTheyCanBeRead) {
  TrackedDirectory directory;
  directory.mount().put("kept", std::string(50000, '\0'));
  directory.sync();
  directory.pause();
  const NodeId node = directory.mount().open("kept");
  directory.mount().write(node, 40000, "changed");
  directory.mount().close(node);
  directory.resume_after_pause();
  {
    const NoDescriptors none;
    EXPECT_TRUE(directory.read_unread());
  }
  directory.sync();
  directory.expect_all_restored();
}

// Its transactions are read when it can be; until then the replica has those before them.
TEST(Unreadable, LogsHaveNotEnded) {
  TrackedDirectory directory;
  TrackedDatabases databases(directory);
  databases.open("x.db", "PRAGMA page_size=1024; PRAGMA journal_mode=WAL");
  databases.exec("x.db", "CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
  databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(3000))");
  directory.sync();
  const auto log = directory.tracker().open_path("x.db-wal");
  ASSERT_NE(log, nullptr);
  FileDescriptor readable(::open(directory.source("x.db-wal").c_str(), O_PATH | O_CLOEXEC));
  std::swap(log->own_fd, readable);
  databases.exec("x.db", "INSERT INTO t(b) VALUES(randomblob(5000))");
  // Its -shm promises frames: the first cut waits for them.
  directory.cut(true);
  directory.cut(true);
  EXPECT_TRUE(directory.cutter().unsettled());
  EXPECT_TRUE(names(directory.cutter().unreadable(), "x.db"));
  std::swap(log->own_fd, readable);
  directory.sync();
  EXPECT_FALSE(directory.cutter().unreadable());
  databases.expect_newest_restored();
  databases.expect_points_are_states();
}

TEST(Unreadable, FilesHoldUpTheFirstUpload) {
  TrackedDirectory directory({.start = false});
  std::ofstream(directory.source("kept"), std::ios::binary) << std::string(50000, 'k');
  directory.start();
  ASSERT_NE(directory.mount().find("kept"), 0U);
  {
    const NoDescriptors none;
    EXPECT_FALSE(directory.read_unread());
    EXPECT_TRUE(directory.unreadable());
  }
  directory.finish_first_upload();
  directory.sync();
  directory.expect_all_restored();
}

}  // namespace
}  // namespace walfs::test
