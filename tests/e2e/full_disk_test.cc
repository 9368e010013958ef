// Disks that fill up under a real mount, on either side: whoever asks is told, nothing that was
// acknowledged is lost, and replication goes on by itself once there is room.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "replicator/base/file_descriptor.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMib = size_t{1} << 20;

// A small filesystem over a directory.
class SmallDisk {
 public:
  SmallDisk(std::string path, const std::string& size) : path_(std::move(path)) {
    fs::create_directories(path_);
    const std::string options = "mode=755,size=" + size;
    EXPECT_EQ(::mount("walfs-test", path_.c_str(), "tmpfs", 0, options.c_str()), 0);
  }
  ~SmallDisk() { ::umount2(path_.c_str(), MNT_DETACH); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  void grow(const std::string& size) const {
    const std::string options = "size=" + size;
    EXPECT_EQ(::mount("walfs-test", path_.c_str(), "tmpfs", MS_REMOUNT, options.c_str()), 0);
  }

 private:
  const std::string path_;
};

// Appends what does not compress and makes it durable. False: there is no room.
bool append(const std::string& path, size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file.valid()) return false;
  const bool written =
      ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  return written && ::fsync(file.get()) == 0;
}

std::string last_error(const ReplicatedDirectory& directory) {
  const nlohmann::json error = directory.status().value("last_error", nlohmann::json());
  return error.is_string() ? error.get<std::string>() : "";
}

void expect_restored(ReplicatedDirectory& directory) {
  EXPECT_NE(directory.sync(), "");
  EXPECT_EQ(last_error(directory), "");
  const auto differences =
      compare_trees(read_tree(directory.source()), read_tree(directory.restore()));
  EXPECT_TRUE(differences.empty()) << join_lines(differences) << directory.log_tail();
  directory.unmount();
}

// In the words of the system or of SQLite, which keeps the catalog.
bool is_full(const ReplicatedDirectory& directory) {
  const std::string error = last_error(directory);
  return error.find("No space left") != std::string::npos ||
         error.find("disk is full") != std::string::npos;
}

bool is_paused(const ReplicatedDirectory& directory) {
  return directory.status()["paused"].is_object();
}

// The disk that the spool shares. What was uploaded makes room again, so there is always more.
void fill(const ReplicatedDirectory& directory, unsigned& seed,
          bool (*enough)(const ReplicatedDirectory&)) {
  while (seed < 100 && append(directory.path("filler"), kMib, seed)) ++seed;
  ASSERT_LT(seed, 100U) << "the disk was never full";
  EXPECT_TRUE(wait_until([&] {
    append(directory.path("small" + std::to_string(seed % 50)), 20000, seed);
    ++seed;
    return enough(directory);
  })) << directory.log_tail();
}

TEST(FullDisks, UnderTheDirectoryAndItsSpoolLoseNothing) {
  ReplicatedDirectory directory;
  const SmallDisk disk(directory.source(), "24m");
  directory.mount({"--sync-interval", "50ms"});
  ASSERT_TRUE(append(directory.path("kept"), kMib, 1));
  directory.sync();
  unsigned seed = 2;
  ASSERT_NO_FATAL_FAILURE(fill(directory, seed, is_full));
  // What waits to be written to the spool may be as large as the file was.
  ASSERT_EQ(::unlink(directory.path("filler").c_str()), 0);
  disk.grow("64m");
  EXPECT_TRUE(append(directory.path("after"), kMib, seed));
  expect_restored(directory);
}

// The next server must be able to begin on such a disk, and to end there.
TEST(FullDisks, UnderTheSpoolPauseReplicationUntilThereIsRoom) {
  ReplicatedDirectory directory;
  const SmallDisk disk(directory.source(), "24m");
  directory.mount({"--sync-interval", "50ms"});
  ASSERT_TRUE(append(directory.path("kept"), kMib, 1));
  directory.sync();
  unsigned seed = 2;
  ASSERT_NO_FATAL_FAILURE(fill(directory, seed, is_paused));
  for (int death = 0; death < 3; ++death) {
    ASSERT_NO_FATAL_FAILURE(directory.kill_server());
    EXPECT_TRUE(fs::exists(directory.path("kept")));
  }
  ASSERT_EQ(::unlink(directory.path("filler").c_str()), 0);
  // The kernel lets go of a removed file a moment later.
  EXPECT_TRUE(wait_until([&] { return append(directory.path("after"), kMib, seed); }));
  expect_restored(directory);
}

// What the last segment had no room for is found by the next mount.
TEST(FullDisks, AtTheEndOfAMountLoseNothing) {
  ReplicatedDirectory directory;
  const SmallDisk disk(directory.source(), "24m");
  for (unsigned round = 0; round < 3; ++round) {
    directory.mount({"--sync-interval", "10s"});
    // The spool is not written to before the end.
    std::ofstream(directory.source() + "/.walfs/filler") << std::string(40 * kMib, 'f');
    append(directory.path("small" + std::to_string(round)), 100, round);
    run_program({walfs_binary(), "unmount", directory.path(), "--force", "--timeout", "2s"},
                Seconds(30));
    ASSERT_TRUE(wait_until([&] { return !mount_at(directory.path()); }));
    fs::remove(directory.source() + "/.walfs/filler");
  }
  directory.mount();
  expect_restored(directory);
}

// Room comes and goes while files are written, and servers die: what a writer was told is durable
// is in the replica, whatever the spool and the catalog had no room for on the way.
TEST(FullDisks, ThatFillUpAgainAndAgainLoseNothing) {
  ReplicatedDirectory directory;
  const SmallDisk disk(directory.source(), "24m");
  directory.mount({"--sync-interval", "50ms"});
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  std::atomic<bool> enough{false};
  std::thread writer([&] {
    for (unsigned seed = 1; !enough; ++seed) {
      append(directory.path("small" + std::to_string(seed % 50)), 20000, seed);
      if (seed % 50 == 0)
        for (unsigned i = 0; i < 50; ++i)
          if (i % 3 == seed / 50 % 3) ::unlink(directory.path("small" + std::to_string(i)).c_str());
    }
  });
  for (int round = 0; round < 5; ++round) {
    for (unsigned seed = 0; seed < 100 && append(directory.path("filler"), kMib, seed);) ++seed;
    usleep(random() % 300000);
    if (random() % 2 == 0) directory.kill_server();
    usleep(random() % 300000);
    ::unlink(directory.path("filler").c_str());
    usleep(random() % 300000);
  }
  enough = true;
  writer.join();
  expect_restored(directory);
}

TEST(FullDisks, UnderTheReplicaHoldUpNobodyAndAreCaughtUpWith) {
  ReplicatedDirectory directory;
  const SmallDisk disk(directory.beside("replica"), "4m");
  directory.mount({"--sync-interval", "50ms", "--request-timeout", "1s"});
  for (unsigned i = 0; i < 10; ++i)
    EXPECT_TRUE(append(directory.path("file" + std::to_string(i)), kMib, i));
  ASSERT_TRUE(wait_until([&] { return is_full(directory); })) << directory.log_tail();
  EXPECT_TRUE(append(directory.path("meanwhile"), kMib, 77));
  disk.grow("64m");
  expect_restored(directory);
}

}  // namespace
}  // namespace walfs::test
