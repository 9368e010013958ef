// restore, verify and history on a bad day of the store: they try again, and what they say and
// write is the same; from a store that does not come back they end by themselves and leave nothing.
#include <gtest/gtest.h>

#include <memory>

#include "tests/support/crowd.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSegmentsMin = 10;
// Of some forty requests, three in ten.
constexpr size_t kFaultsSeen = 5;

class Replica {
 public:
  Replica() : endpoint_(s3_endpoint()), directory_(s3_url(endpoint_)) {
    for (int i = 0; i < 20; ++i)
      std::ofstream(directory_.source() + "/before" + std::to_string(i)) << std::string(9000, 'b');
    directory_.mount({"--sync-interval", "50ms"});
    for (int i = 0; i < kSegmentsMin; ++i) {
      CrowdDatabase database(directory_.path("x.db"), {"wal", "NORMAL"});
      EXPECT_TRUE(
          database.run("CREATE TABLE IF NOT EXISTS t(a);"
                       "INSERT INTO t VALUES(randomblob(5000))"));
      std::ofstream(directory_.path("file" + std::to_string(i))) << i << std::string(20000, 'f');
      EXPECT_NE(directory_.sync(), "");
    }
    directory_.unmount();
    tree_ = read_tree(directory_.source());
    points_ = points_of(run_program({walfs_binary(), "history", url(endpoint_), "--json"}));
    EXPECT_GE(points_.size(), static_cast<size_t>(kSegmentsMin));
  }

  std::string url(const std::string& endpoint) const {
    const std::string& whole = directory_.url();
    return whole.substr(0, whole.find(endpoint_)) + endpoint;
  }
  const std::string& endpoint() const { return endpoint_; }
  const Tree& tree() const { return tree_; }
  const json& points() const { return points_; }

  static json points_of(const Output& history) {
    EXPECT_EQ(history.status, 0) << history.text;
    const json answer = json::parse(history.text, nullptr, /*allow_exceptions=*/false);
    return answer.is_object() ? answer.value("points", json()) : json();
  }

 private:
  std::string endpoint_;
  ReplicatedDirectory directory_;
  Tree tree_;
  json points_;
};

struct Answers {
  Output restore, verify, history;
};

// One replica for all, and a proxy in front of it for each.
class ReadsFromS3 : public testing::Test {
 protected:
  static void SetUpTestSuite() { replica_ = std::make_unique<Replica>(); }
  static void TearDownTestSuite() { replica_.reset(); }

  ReadsFromS3() : proxy_(replica_->endpoint()) { fs::create_directory(place_.path() + "/targets"); }

  std::string targets() const { return place_.path() + "/targets"; }

  Answers ask_all(const FaultProxy& proxy, const std::string& name) const {
    Answers answers;
    const auto run = [](Output& output, const std::vector<std::string>& words) {
      return std::thread([&output, words] { output = run_program(words, Seconds(120)); });
    };
    const std::string binary = walfs_binary();
    const std::string url = replica_->url(proxy.url());
    std::vector<std::thread> commands;
    commands.push_back(run(answers.restore, {binary, "restore", url, targets() + "/" + name}));
    commands.push_back(run(answers.verify, {binary, "verify", url}));
    commands.push_back(run(answers.history, {binary, "history", url, "--json"}));
    for (std::thread& command : commands) command.join();
    return answers;
  }
  static void expect_one_sentence(const Output& output, const std::string& part) {
    EXPECT_EQ(output.status, 1) << output.text;
    EXPECT_TRUE(output.text.starts_with("walfs: ")) << output.text;
    EXPECT_EQ(std::count(output.text.begin(), output.text.end(), '\n'), 1) << output.text;
    EXPECT_NE(output.text.find(part), std::string::npos) << part << " is not in: " << output.text;
  }

  static inline std::unique_ptr<Replica> replica_;
  FaultProxy proxy_;
  TemporaryDirectory place_;
};

struct NamedFault {
  const char* name;
  FaultRule rule;
};
void PrintTo(const NamedFault& fault, std::ostream* out) {
  *out << fault.name;
}

class ReadsFromFaultyS3 : public ReadsFromS3, public testing::WithParamInterface<NamedFault> {};

TEST_P(ReadsFromFaultyS3, AreTriedAgainAndFindTheSame) {
  FaultRule rule = GetParam().rule;
  rule.method = "GET";
  rule.percent = 30;
  proxy_.inject(rule);
  const Answers answers = ask_all(proxy_, "target");
  EXPECT_GE(proxy_.faults(), kFaultsSeen);
  EXPECT_EQ(answers.restore.status, 0) << answers.restore.text;
  const auto differences = compare_trees(replica_->tree(), read_tree(targets() + "/target"));
  EXPECT_TRUE(differences.empty()) << join_lines(differences);
  EXPECT_EQ(answers.verify.status, 0) << answers.verify.text;
  EXPECT_EQ(Replica::points_of(answers.history), replica_->points());
}

INSTANTIATE_TEST_SUITE_P(
    Each, ReadsFromFaultyS3,
    testing::Values(NamedFault{"InternalError", {.status = 500}},
                    NamedFault{"ResetInTheAnswer", {.fault = Fault::kResetInAnswer, .bytes = 400}},
                    NamedFault{"TruncatedBody", {.fault = Fault::kTruncatedBody}},
                    NamedFault{"Drip", {.fault = Fault::kDrip, .bytes = 300, .delay_ms = 1}},
                    NamedFault{"LostAnswer", {.fault = Fault::kLostAnswer}},
                    NamedFault{"ErrorInSuccess", {.fault = Fault::kErrorInSuccess}}),
    [](const auto& each) { return std::string(each.param.name); });

// One store has gone at once, the other one when the chunks are read: a restore has begun to write,
// and leaves what it has of the log, if anything; nothing that verify has read is damaged.
TEST_F(ReadsFromS3, ThatFailForEverEndWithOneSentenceAndLeaveNoTarget) {
  FaultProxy later(replica_->endpoint());
  proxy_.inject({.method = "GET", .status = 500});
  later.inject({.method = "GET", .path = "/chunks/", .status = 500});
  Answers answers, late_answers;
  std::thread beside([&] { late_answers = ask_all(later, "late"); });
  answers = ask_all(proxy_, "target");
  beside.join();
  for (const Output& output : {answers.restore, answers.verify, answers.history})
    expect_one_sentence(output, proxy_.url() + " answers 500");
  for (const Output& output : {late_answers.restore, late_answers.verify})
    expect_one_sentence(output, later.url() + " answers 500");
  EXPECT_EQ(Replica::points_of(late_answers.history), replica_->points());
  for (const auto& left : fs::directory_iterator(targets()))
    EXPECT_EQ(left.path().filename(), "late.restoring");
}

}  // namespace
}  // namespace walfs::test
