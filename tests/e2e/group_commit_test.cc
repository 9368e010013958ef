// Group commit: with `--durability sync` and a store that takes its time, commits share uploads.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/support/crowd.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"

namespace walfs::test {
namespace {

constexpr size_t kDatabases = 6;
constexpr size_t kWritersEach = 2;
constexpr size_t kCommitsEach = 4;
constexpr size_t kCommits = kDatabases * kWritersEach * kCommitsEach;
// Commits of one database are made one after the other, and each waits for an upload.
constexpr size_t kUploadsMin = kWritersEach * kCommitsEach;
// A commit waits for the upload that is under way and for the next one, which has it: two uploads
// for a commit of every database. What is left is for those that come a little late for one.
constexpr size_t kUploadsMax = kCommits / 2;
static_assert(kUploadsMax > 2 * kUploadsMin);

const JournalMode kMode = {"wal", "NORMAL"};

std::string name_of(size_t database) {
  return std::to_string(database) + ".db";
}

void make_databases(const ReplicatedDirectory& directory) {
  for (size_t i = 0; i < kDatabases; ++i) {
    CrowdDatabase database(directory.path(name_of(i)), kMode);
    ASSERT_TRUE(database.run("CREATE TABLE t(a)")) << database.error();
  }
}

void commit_at_once(const ReplicatedDirectory& directory) {
  std::vector<std::thread> writers;
  for (size_t i = 0; i < kDatabases * kWritersEach; ++i) {
    writers.emplace_back([&directory, i] {
      CrowdDatabase database(directory.path(name_of(i % kDatabases)), kMode);
      for (size_t commit = 0; commit < kCommitsEach; ++commit)
        EXPECT_TRUE(database.run("INSERT INTO t VALUES(1)")) << database.error();
    });
  }
  for (std::thread& writer : writers) writer.join();
}

TEST(DurabilityOfS3, CommitsThatAreMadeDuringAnUploadShareTheNextOne) {
  FaultProxy proxy(s3_endpoint());
  ReplicatedDirectory directory(s3_url(proxy.url()));
  directory.mount({"--durability", "sync"});
  make_databases(directory);
  ASSERT_NE(directory.sync(), "");
  proxy.inject({.fault = Fault::kDelay, .method = "PUT", .delay_ms = 200});
  commit_at_once(directory);
  const size_t uploads = proxy.faults();
  std::cout << uploads << " uploads for " << kCommits << " commits" << std::endl;
  EXPECT_GE(uploads, kUploadsMin) << "commits did not wait for the store";
  EXPECT_LE(uploads, kUploadsMax) << "commits did not share uploads";
  // Nothing has asked for anything since: what has returned is there.
  directory.crash();
  const std::string restored = directory.restore();
  ASSERT_NE(restored, "");
  for (size_t i = 0; i < kDatabases; ++i) {
    CrowdDatabase database(restored + "/" + name_of(i), kMode);
    EXPECT_EQ(database.ask("SELECT count(*) FROM t"), kWritersEach * kCommitsEach) << name_of(i);
  }
}

}  // namespace
}  // namespace walfs::test
