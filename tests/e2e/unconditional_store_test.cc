// An S3 service without conditional PUT: everything works, but two writers that begin at the same
// time cannot be kept apart, and status and log say so.
#include <gtest/gtest.h>

#include "tests/support/crowd.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

const std::vector<std::string> kOften = {"--sync-interval", "50ms"};

struct Lack {
  const char* name;
  FaultRule rule;
  const char* fencing;
};
void PrintTo(const Lack& lack, std::ostream* out) {
  *out << lack.name;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

class UnconditionalS3 : public testing::TestWithParam<Lack> {
 protected:
  UnconditionalS3() : proxy_(s3_endpoint()), first_(s3_url(proxy_.url())), second_(first_.url()) {
    proxy_.inject(GetParam().rule);
  }

  static void expect_all_is_there(ReplicatedDirectory& host) {
    const auto differences = compare_trees(read_tree(host.source()), read_tree(host.restore()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
    const Output verified = run_program({walfs_binary(), "verify", host.url()}, Seconds(60));
    EXPECT_EQ(verified.status, 0) << verified.text;
  }
  static void expect_says(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
  }

  FaultProxy proxy_;
  ReplicatedDirectory first_;
  ReplicatedDirectory second_;
};

TEST_P(UnconditionalS3, IsToldByStatusAndLogAndKeepsACompleteReplica) {
  const std::string fencing = GetParam().fencing;
  write_file(first_.source() + "/before", std::string(100000, 'b'));
  first_.mount(kOften);
  for (int i = 0; i < 5; ++i) {
    CrowdDatabase database(first_.path("x.db"), {"wal", "NORMAL"});
    EXPECT_TRUE(database.run("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1)"));
    write_file(first_.path("file"), std::string(10000, static_cast<char>('a' + i)));
    EXPECT_NE(first_.sync(), "");
  }
  EXPECT_GT(proxy_.faults(), 0U);
  EXPECT_EQ(first_.status().value("fencing", ""), fencing);
  expect_says(run_program({walfs_binary(), "status", first_.path()}).text,
              "\n  fencing     " + fencing + "\n");
  expect_says(read_whole_file(first_.log_file()),
              "is not protected from a second writer (" + fencing + ")");
  expect_all_is_there(first_);
}

// Where they do not begin at the same time.
TEST_P(UnconditionalS3, StillRefusesASecondWriterAndTellsTheFirstThatItWasReplaced) {
  first_.mount(kOften);
  write_file(first_.path("file"), "of the first");
  first_.sync();
  const Output refused = second_.try_mount(kOften);
  EXPECT_EQ(refused.status, 1) << refused.text;
  expect_says(refused.text, " is written by ");
  expect_says(refused.text, first_.source());
  write_file(second_.source() + "/file", "of the second");
  second_.mount({"--sync-interval", "50ms", "--take-over"});
  second_.sync();
  write_file(first_.path("late"), "too late");
  EXPECT_TRUE(wait_until([&] { return first_.status().value("fenced", false); }));
  EXPECT_GT(proxy_.faults(), 0U);
  expect_all_is_there(second_);
}

INSTANTIATE_TEST_SUITE_P(
    Each, UnconditionalS3,
    testing::Values(
        Lack{"ThatIgnoresTheCondition",
             {.fault = Fault::kUnconditional, .method = "PUT", .header = "if-none-match"},
             "none: the store ignores the condition of a conditional PUT"},
        Lack{"ThatRefusesTheCondition",
             {.method = "PUT", .header = "if-none-match", .status = 501},
             "none: the store has no conditional PUT"}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace walfs::test
