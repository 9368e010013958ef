// Each file that the kernel knows costs two processes a descriptor: the kernel is asked to forget
// some. The next server looks at many of them; so does whoever looks at all that is there.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/mounted_directory.h"
#include "tests/support/read_file.h"

namespace walfs::test {
namespace {

class FewDescriptors : public testing::Test {
 protected:
  static constexpr int kFiles = 9000;
  static constexpr int kLimit = 6000;

  // walfs with a limit of open files that it can't raise.
  std::string binary() const {
    const std::string limited = place_.path() + "/limited";
    std::ofstream(limited) << "#!/bin/sh\nexec prlimit --nofile=" << kLimit << ":" << kLimit
                           << " setpriv --bounding-set -sys_resource " << walfs_binary()
                           << " \"$@\"\n";
    chmod(limited.c_str(), 0755);
    return limited;
  }
  static std::string name(const std::string& where, int i) {
    return where + "/" + std::to_string(i % 100) + "/" + std::to_string(i);
  }
  static void make_files(const std::string& where) {
    for (int i = 0; i < 100; ++i)
      std::filesystem::create_directories(where + "/" + std::to_string(i));
    for (int i = 0; i < kFiles; ++i) std::ofstream(name(where, i)) << i;
  }
  static void expect_files(const std::string& where) {
    for (int i = 0; i < kFiles; ++i) {
      std::ifstream file(name(where, i));
      int content = -1;
      file >> content;
      ASSERT_EQ(content, i);
    }
  }
  // Everything has gone up, and nobody has run out of descriptors.
  void expect_all_is_well(const MountedDirectory& mounted) const {
    nlohmann::json status;
    EXPECT_TRUE(wait_until([&] {
      const auto answer = control_request(mounted.path(), {{"command", "status"}}, 10000);
      if (answer) status = *answer;
      return status["first_upload"].value("done", false);
    })) << status;
    EXPECT_EQ(status.value("nodes_max", 0), (kLimit - 1024) / 4 * 3);
    EXPECT_LE(status.value("nodes", kFiles), status.value("nodes_max", 0));
    const std::string said = read_file_as<std::string>(log());
    EXPECT_EQ(said.find("Too many open files"), std::string::npos) << said;
    EXPECT_EQ(said.find("error server"), std::string::npos) << said;
  }
  std::string log() const { return place_.path() + "/log"; }

  TemporaryDirectory place_;
};

TEST_F(FewDescriptors, AreEnoughForMoreFilesThatAreMadeJustBeforeAServerDies) {
  MountedDirectory mounted({"--log-file", log(), "--sync-interval", "30s"}, Seconds(120), {}, {},
                           binary());
  make_files(mounted.path());
  kill(mounted.pid("server_pid"), SIGKILL);
  expect_files(mounted.path());
  expect_all_is_well(mounted);
}

TEST_F(FewDescriptors, AreEnoughForAFirstUploadOfMoreFilesThatAreReadMeanwhile) {
  const std::string source = place_.path() + "/source";
  make_files(source);
  MountedDirectory mounted({"--log-file", log()}, Seconds(120), source, {}, binary());
  expect_files(mounted.path());
  expect_all_is_well(mounted);
}

}  // namespace
}  // namespace walfs::test
