// One file, used in every way that a program can use one, against a model in memory: the mount's
// caches, the server and the replica have to agree with it.
//
// A failure prints its seed; WALFS_TEST_SEED=N runs that one again, WALFS_TEST_STEPS=N makes it
// longer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/file_exerciser.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

constexpr long kSteps = 3000;
constexpr long kStepsBetweenWholeReads = 50;
constexpr long kStepsBetweenSyncs = 600;

bool takes_direct_io(const std::string& directory) {
  const std::string path = directory + "/direct";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  if (fd >= 0) close(fd);
  unlink(path.c_str());
  return fd >= 0;
}

long number_from_environment(const char* name, long fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtol(text, nullptr, 10) : fallback;
}

class Fsx : public testing::TestWithParam<int> {};

TEST_P(Fsx, AFileIsWhatWasDoneToItHereAndInTheReplica) {
  const auto seed = static_cast<uint64_t>(number_from_environment("WALFS_TEST_SEED", GetParam()));
  const long steps = number_from_environment("WALFS_TEST_STEPS", kSteps);
  SCOPED_TRACE("WALFS_TEST_SEED=" + std::to_string(seed));
  ReplicatedDirectory volume;
  const bool direct = takes_direct_io(volume.beside("."));
  ASSERT_NO_FATAL_FAILURE(volume.mount());
  std::vector<std::pair<std::string, std::string>> points;  // Position and content.
  {
    FileExerciser file(volume.path("file"), seed, direct);
    for (long step = 0; step < steps; ++step) {
      file.step();
      if (!HasFatalFailure() && step % kStepsBetweenWholeReads == 0) file.compare_whole();
      if (HasFatalFailure()) FAIL() << file.recent();
      if (step % kStepsBetweenSyncs == kStepsBetweenSyncs / 2)
        points.emplace_back(volume.sync(), file.model());
    }
    points.emplace_back(volume.sync(), file.model());
  }
  for (const auto& [position, content] : points) {
    const std::string restored = volume.restore({"--at", position});
    ASSERT_NE(restored, "");
    const std::string actual = read_whole_file(restored + "/file");
    EXPECT_TRUE(actual == content)
        << "restored at " << position << ": " << first_difference(content, actual);
  }
  volume.unmount();
  EXPECT_TRUE(read_whole_file(volume.source() + "/file") == points.back().second);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Fsx, testing::Range(1, 7));

}  // namespace
}  // namespace walfs::test
