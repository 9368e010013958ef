// Two hosts and one replica: whoever comes second is told so, and a host that was replaced while it
// slept finds out and adds nothing.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

class Fencing : public ::testing::TestWithParam<Place> {
 protected:
  Fencing() : first_(replica_url(GetParam())), second_(first_.url()) {}

  void mount_first() {
    first_.mount({"--sync-interval", "50ms"});
    write_file(first_.path("file"), "of the first");
    first_.sync();
  }
  void take_over() {
    write_file(second_.source() + "/file", "of the second");
    second_.mount({"--sync-interval", "50ms", "--take-over"});
    second_.sync();
  }
  bool first_finds_out() {
    return wait_until([&] { return first_.status().value("fenced", false); });
  }
  void expect_only_the_second() {
    write_file(second_.path("new"), "new");
    second_.sync();
    EXPECT_FALSE(second_.status().value("fenced", true));
    const auto differences =
        compare_trees(read_tree(second_.source()), read_tree(second_.restore()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
    const Output verified = run_program({walfs_binary(), "verify", second_.url()}, Seconds(60));
    EXPECT_EQ(verified.status, 0) << verified.text;
  }
  static void expect_says_who(const std::string& text, const ReplicatedDirectory& holder) {
    const std::vector<std::string> parts = {" is written by ", holder.source(), " since 20",
                                            "mount with --take-over"};
    for (const std::string& part : parts) {
      EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
    }
  }

  ReplicatedDirectory first_;
  ReplicatedDirectory second_;
};

TEST_P(Fencing, IsShownByStatus) {
  mount_first();
  EXPECT_EQ(first_.status().value("fencing", ""), "conditional-put");
}

TEST_P(Fencing, OfTwoThatBeginAtTheSameTimeOneIsToldWhoWasFirst) {
  Output one;
  Output other;
  std::thread beside([&] { other = second_.try_mount({"--sync-interval", "50ms"}); });
  one = first_.try_mount({"--sync-interval", "50ms"});
  beside.join();
  ASSERT_EQ((one.status == 0) + (other.status == 0), 1) << one.text << other.text;
  ReplicatedDirectory& winner = one.status == 0 ? first_ : second_;
  const std::string& refusal = one.status == 0 ? other.text : one.text;
  expect_says_who(refusal, winner);
  write_file(winner.path("file"), "of the winner");
  winner.sync();
  EXPECT_EQ(read_whole_file(winner.restore() + "/file"), "of the winner");
}

TEST_P(Fencing, WhoWasReplacedIsToldByWhomAndMayComeBackOnlyByTakingOver) {
  mount_first();
  take_over();
  write_file(first_.path("late"), "too late");
  ASSERT_TRUE(first_finds_out()) << first_.status().dump();
  const Output late = run_program({walfs_binary(), "sync", first_.path(), "--timeout", "5s"});
  EXPECT_EQ(late.status, 1) << late.text;
  expect_says_who(late.text, second_);
  // Its own application goes on.
  EXPECT_EQ(read_whole_file(first_.path("late")), "too late");
  expect_only_the_second();
  run_program({walfs_binary(), "unmount", first_.path(), "--force", "--timeout", "1s"});
  const Output again = first_.try_mount();
  EXPECT_EQ(again.status, 1) << again.text;
  expect_says_who(again.text, second_);
  expect_only_the_second();
}

// The server sleeps with all of its threads, wherever they are, while its successor begins.
TEST_P(Fencing, AZombieThatWakesUpAfterATakeOverFindsOutAndAddsNothing) {
  mount_first();
  const int server = first_.status().value("server_pid", 0);
  ASSERT_GT(server, 0);
  for (int i = 0; i < 20; ++i) {
    write_file(first_.path("zombie" + std::to_string(i)), std::string(20000, 'z'));
  }
  ASSERT_EQ(kill(server, SIGSTOP), 0);
  take_over();
  const auto before = read_tree(second_.restore());
  ASSERT_EQ(kill(server, SIGCONT), 0);
  write_file(first_.path("late"), "too late");
  ASSERT_TRUE(first_finds_out()) << first_.status().dump();
  const auto differences = compare_trees(before, read_tree(second_.restore()));
  EXPECT_TRUE(differences.empty()) << join_lines(differences);
  expect_only_the_second();
}

// Its machine came back after the disaster for which it was replaced.
TEST_P(Fencing, WhoComesBackAfterACrashIsRefused) {
  mount_first();
  first_.crash();
  take_over();
  const Output again = first_.try_mount();
  EXPECT_EQ(again.status, 1) << again.text;
  expect_says_who(again.text, second_);
  expect_only_the_second();
}

INSTANTIATE_TEST_SUITE_P(Directory, Fencing, ::testing::Values(Place::kDirectory));
INSTANTIATE_TEST_SUITE_P(S3, Fencing, ::testing::Values(Place::kS3));

}  // namespace
}  // namespace walfs::test
