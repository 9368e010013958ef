// The times of changes that applications see are those that the backing directory keeps and that a
// restore gives back, whoever keeps them meanwhile: the kernel with its write-back cache, or nobody
// but the backing directory.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "replicator/base/file_descriptor.h"
#include "tests/support/replicated_directory.h"

namespace walfs::test {
namespace {

constexpr int kFiles = 50;

int64_t time_of(const std::string& path) {
  struct stat attributes = {};
  EXPECT_EQ(stat(path.c_str(), &attributes), 0) << path;
  return int64_t{attributes.st_mtim.tv_sec} * 1'000'000'000 + attributes.st_mtim.tv_nsec;
}

class ChangeTimes : public testing::TestWithParam<const char*> {
 protected:
  // The kernel sends no time that it has sent before: most of these are made and written to in one
  // tick of its clock.
  void write_files() {
    for (int i = 0; i < kFiles; ++i) {
      std::ofstream(path("closed" + std::to_string(i))) << "text";
      std::ofstream(path("mode" + std::to_string(i))) << "text";
      chmod(path("mode" + std::to_string(i)).c_str(), 0600);
    }
  }
  // Twice through a mapping, with a sync in between.
  void write_mapping() {
    const FileDescriptor fd(open(path("mapped").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
    void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(memory, MAP_FAILED);
    static_cast<char*>(memory)[0] = 'a';
    ASSERT_EQ(fsync(fd.get()), 0);
    usleep(20000);
    static_cast<char*>(memory)[1] = 'b';
    munmap(memory, 4096);
  }
  std::string path(const std::string& name) const { return directory_.path(name); }
  std::map<std::string, int64_t> times_in(const std::string& where) const {
    std::map<std::string, int64_t> times;
    for (const auto& entry : std::filesystem::directory_iterator(where))
      if (entry.is_regular_file()) times[entry.path().filename()] = time_of(entry.path());
    return times;
  }

  ReplicatedDirectory directory_;
};

TEST_P(ChangeTimes, AreInAReplicaAndStayAfterAnUnmountAsApplicationsHaveSeenThem) {
  directory_.mount({"--durability", GetParam()});
  write_files();
  write_mapping();
  const auto seen = times_in(directory_.path());
  EXPECT_EQ(seen.size(), size_t{2 * kFiles + 1});
  directory_.unmount();
  EXPECT_EQ(times_in(directory_.source()), seen);
  EXPECT_EQ(times_in(directory_.restore()), seen);
}

// A log that stays open and is never synced.
TEST_P(ChangeTimes, OfAFileThatStaysOpenComeToTheReplica) {
  directory_.mount({"--durability", GetParam()});
  FileDescriptor log(open(path("log").c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644));
  const int64_t made = time_of(path("log"));
  for (int i = 0; i < 15; ++i) {
    ASSERT_EQ(write(log.get(), "line\n", 5), 5);
    usleep(100000);
  }
  ASSERT_NE(directory_.sync(), "");
  EXPECT_GT(time_of(directory_.restore() + "/log"), made);
  log.reset();
  directory_.unmount();
}

TEST_P(ChangeTimes, OfAFileThatIsOpenWhileTheServerDiesComeToTheReplica) {
  directory_.mount({"--durability", GetParam()});
  FileDescriptor file(open(path("file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  const int64_t made = time_of(path("file"));
  usleep(50000);
  ASSERT_EQ(write(file.get(), "text", 4), 4);
  directory_.kill_server();
  file.reset();
  directory_.unmount();
  const int64_t kept = time_of(directory_.source() + "/file");
  EXPECT_GT(kept, made);
  EXPECT_EQ(time_of(directory_.restore() + "/file"), kept);
}

INSTANTIATE_TEST_SUITE_P(Durability, ChangeTimes, testing::Values("async", "sync"),
                         [](const auto& about) { return std::string(about.param); });

}  // namespace
}  // namespace walfs::test
