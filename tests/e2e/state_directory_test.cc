// A state directory that is gone, or is from an earlier time: nobody guesses whose the replica is,
// and what the store has does not go up again.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;

class StateDirectory : public testing::Test {
 protected:
  StateDirectory() {
    std::minstd_rand random(1);
    for (int i = 0; i < 3; ++i) {
      std::string text(300'000, '\0');
      for (char& c : text) c = static_cast<char>(random());
      std::ofstream(directory_.source() + "/there" + std::to_string(i), std::ios::binary) << text;
    }
    directory_.mount();
    directory_.sync();
    directory_.unmount();
  }

  std::string state() const { return directory_.source() + "/.walfs"; }
  size_t chunks() const {
    size_t found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory_.beside("replica/chunks")))
      found += entry.is_regular_file() ? 1 : 0;
    return found;
  }
  void write(const std::string& name) {
    std::ofstream(directory_.path(name)) << "written meanwhile";
  }
  void expect_refused() {
    const Output refused = directory_.try_mount();
    EXPECT_EQ(refused.status, 1) << refused.text;
    EXPECT_NE(refused.text.find("is written by"), std::string::npos) << refused.text;
    EXPECT_NE(refused.text.find("--take-over"), std::string::npos) << refused.text;
  }
  // With a little that is new.
  void expect_only_the_difference_goes_up() {
    const size_t before = chunks();
    std::ofstream(directory_.source() + "/new") << "new";
    directory_.mount({"--take-over"});
    write("later");
    EXPECT_NE(directory_.sync(), "");
    // One for the files that are smaller than a chunk.
    EXPECT_LE(chunks(), before + 1);
    const auto differences =
        compare_trees(read_tree(directory_.source()), read_tree(directory_.restore()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
    directory_.unmount();
  }

  ReplicatedDirectory directory_;
};

TEST_F(StateDirectory, ThatIsGoneIsMadeAnewByWhoSaysSo) {
  fs::remove_all(state());
  expect_refused();
  expect_only_the_difference_goes_up();
}

TEST_F(StateDirectory, ThatIsFromAnEarlierTimeIsNotGoneOnWith) {
  fs::copy(state(), directory_.beside("earlier"), fs::copy_options::recursive);
  directory_.mount();
  write("meanwhile");
  directory_.unmount();
  fs::remove_all(state());
  fs::copy(directory_.beside("earlier"), state(), fs::copy_options::recursive);
  expect_refused();
  expect_only_the_difference_goes_up();
}

}  // namespace
}  // namespace walfs::test
