// A store that fails in every way that is known, under a real mount: the application notices
// nothing, and afterwards the replica is complete without anybody's help.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>
#include <random>

#include "replicator/stores/store.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/replica_place.h"
#include "tests/support/replicated_directory.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

// Short, so that a fault is met several times in a few seconds.
const std::vector<std::string> kImpatient = {"--sync-interval", "50ms", "--request-timeout", "1s"};
constexpr size_t kFaultsSeen = 4;
constexpr long kMemoryMaxKib = 200L << 10;
constexpr size_t kLogLinesMax = 12;  // About uploads, for one outage.

class Application {
 public:
  explicit Application(const ReplicatedDirectory& directory) : directory_(directory) {
    EXPECT_EQ(sqlite3_open(directory.path("x.db").c_str(), &database_), SQLITE_OK);
    run("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(v)");
  }
  ~Application() { sqlite3_close(database_); }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;

  void work() {
    run("INSERT INTO t VALUES(randomblob(3000))");
    const std::string name = directory_.path("file" + std::to_string(++steps_ % 10));
    std::ofstream file(name);
    file << std::string(20000, static_cast<char>('a' + steps_ % 26));
    EXPECT_TRUE(file.flush().good()) << name;
  }

 private:
  void run(const std::string& sql) {
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << sql << ": " << message;
    sqlite3_free(message);
  }
  const ReplicatedDirectory& directory_;
  sqlite3* database_ = nullptr;
  int steps_ = 0;
};

// The most that the process ever had in memory.
long peak_memory_kib(int pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::strtol(line.c_str() + 6, nullptr, 10);
  ADD_FAILURE() << "process " << pid << " has ended";
  return 0;
}

// Lines that say `part` behind `about`.
size_t log_lines(const ReplicatedDirectory& directory, const std::string& part,
                 const std::string& about = "") {
  std::ifstream log(directory.log_file());
  EXPECT_TRUE(log.good()) << directory.log_file();
  size_t found = 0;
  for (std::string line; std::getline(log, line);) {
    const size_t at = line.find(about);
    found += at != std::string::npos && line.find(part, at) != std::string::npos;
  }
  return found;
}

// About the upload of what is written. What the first snapshot tells comes when it comes.
size_t log_lines_about_uploads(const ReplicatedDirectory& directory, const std::string& part = "") {
  return log_lines(directory, part, "uploads to ");
}

class OutageOfS3 : public ::testing::Test {
 protected:
  OutageOfS3() : proxy_(s3_endpoint()), directory_(s3_url(proxy_.url())) {}

  void begin() {
    directory_.mount(kImpatient);
    application_ = std::make_unique<Application>(directory_);
    application_->work();
    directory_.sync();
  }
  void work_until_met(size_t faults) {
    EXPECT_TRUE(wait_until(
        [&] {
          application_->work();
          return proxy_.faults() >= faults;
        },
        Seconds(60)));
    application_->work();
  }
  void expect_all_is_there() {
    application_.reset();  // Moves all of its log into the database.
    proxy_.heal();
    EXPECT_NE(directory_.sync(), "");
    const nlohmann::json status = directory_.status();
    EXPECT_TRUE(status.value("last_error", nlohmann::json()).is_null()) << status.dump();
    EXPECT_FALSE(status.value("fenced", true)) << status.dump();
    const auto differences =
        compare_trees(read_tree(directory_.source()), read_tree(directory_.restore()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
    EXPECT_LT(peak_memory_kib(status.value("server_pid", 0)), kMemoryMaxKib);
    EXPECT_LE(log_lines_about_uploads(directory_), kLogLinesMax) << directory_.log_tail();
    directory_.unmount();
  }

  FaultProxy proxy_;
  ReplicatedDirectory directory_;
  std::unique_ptr<Application> application_;
};

// R2 has been seen to do so. Whoever removes objects has to look again.
TEST_F(OutageOfS3, ADeleteThatWasAnsweredNeedNotHaveBeenDone) {
  const auto store = open_store(directory_.url(), StoreOptions(), /*create=*/false);
  ASSERT_TRUE(store.ok()) << store.error().message;
  ASSERT_TRUE((*store)->put("key", ObjectBody::of("text"), PutMode::kPlain).ok());
  proxy_.inject({.fault = Fault::kIgnoredDelete});
  EXPECT_TRUE((*store)->remove("key").ok());
  EXPECT_TRUE((*store)->head("key").ok());
  proxy_.heal();
  EXPECT_TRUE((*store)->remove("key").ok());
  EXPECT_EQ((*store)->head("key").error().code, Errc::kNothingThere);
}

struct NamedFault {
  const char* name;
  FaultRule rule;
  size_t faults = kFaultsSeen;
};
void PrintTo(const NamedFault& fault, std::ostream* out) {
  *out << fault.name;
}

class FaultOfS3 : public OutageOfS3, public ::testing::WithParamInterface<NamedFault> {};

TEST_P(FaultOfS3, DisturbsNobodyAndIsCaughtUpWith) {
  begin();
  proxy_.inject(GetParam().rule);
  work_until_met(GetParam().faults);
  expect_all_is_there();
}

FaultRule rule(Fault fault, FaultRule more = {}) {
  more.fault = fault;
  return more;
}

INSTANTIATE_TEST_SUITE_P(
    Each, FaultOfS3,
    ::testing::Values(
        NamedFault{"InternalError", rule(Fault::kStatus, {.status = 500})},
        NamedFault{"SlowDown", rule(Fault::kStatus, {.status = 503, .retry_after_s = 1})},
        NamedFault{"ResetInTheRequest", rule(Fault::kResetInRequest, {.bytes = 100})},
        NamedFault{"ResetInTheAnswer", rule(Fault::kResetInAnswer, {.bytes = 20})},
        NamedFault{"NoAnswer", rule(Fault::kNoAnswer)}, NamedFault{"Drip", rule(Fault::kDrip), 2},
        NamedFault{"TruncatedBody", rule(Fault::kTruncatedBody)},
        NamedFault{"ErrorInSuccess", rule(Fault::kErrorInSuccess)},
        NamedFault{"Delay", rule(Fault::kDelay, {.delay_ms = 300})},
        NamedFault{"LostAnswer", rule(Fault::kLostAnswer)},
        NamedFault{"DeliveredTwice", rule(Fault::kTwice, {.method = "PUT"})},
        NamedFault{"OnlySomeFail", rule(Fault::kStatus, {.percent = 50, .status = 500})}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(OutageOfS3, OfEveryKindInTurnEndsWithACompleteReplica) {
  begin();
  int kind = 0;
  for (const Fault fault : {Fault::kStatus, Fault::kResetInRequest, Fault::kResetInAnswer,
                            Fault::kErrorInSuccess, Fault::kLostAnswer, Fault::kTruncatedBody}) {
    proxy_.inject(rule(fault, {.percent = 15U + 5U * static_cast<unsigned>(kind++), .bytes = 30}));
  }
  work_until_met(3 * kFaultsSeen);
  expect_all_is_there();
}

TEST_F(OutageOfS3, IsToldByStatusAndByALineOfTheLogAtEachEnd) {
  begin();
  proxy_.inject({.status = 500});
  application_->work();
  ASSERT_TRUE(wait_until([&] { return directory_.status()["last_error"].is_string(); }));
  EXPECT_NE(directory_.status()["last_error"].get<std::string>().find("500 InternalError"),
            std::string::npos);
  ASSERT_TRUE(wait_until([&] { return proxy_.faults() >= 12; }, Seconds(60)));
  EXPECT_GT(directory_.status().value("outage_ms", 0), 0);
  EXPECT_EQ(log_lines_about_uploads(directory_, " fail, trying again until they work: "), 1U);
  proxy_.heal();
  directory_.sync();
  EXPECT_EQ(log_lines_about_uploads(directory_, " work again after "), 1U) << directory_.log_tail();
  EXPECT_EQ(directory_.status().value("outage_ms", -1), 0);
  expect_all_is_there();
}

// Nothing answers, and so nothing is known to work, before it does.
TEST_F(OutageOfS3, ThatFillsTheSpoolPausesReplicationOnce) {
  std::vector<std::string> options = kImpatient;
  options.insert(options.end(), {"--spool-limit", "512KiB"});
  directory_.mount(options);
  application_ = std::make_unique<Application>(directory_);
  application_->work();
  directory_.sync();
  proxy_.inject({.status = 503});
  std::mt19937 random(1);
  EXPECT_TRUE(wait_until([&] {
    application_->work();
    std::string noise(20000, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    std::ofstream(directory_.path("noise")) << noise;
    return directory_.status()["paused"].is_object();
  }));
  const size_t faults = proxy_.faults();
  ASSERT_TRUE(wait_until([&] { return proxy_.faults() >= faults + kFaultsSeen; }, Seconds(60)));
  EXPECT_TRUE(directory_.status()["paused"].is_object());
  expect_all_is_there();
  EXPECT_EQ(log_lines(directory_, "replication pauses"), 1U);
  EXPECT_EQ(log_lines(directory_, "replication goes on"), 1U);
}

// What is found by comparing goes no faster than a slow store takes it, and leaves room in the
// spool for what is written meanwhile: else replication would pause again as soon as it goes on.
TEST_F(OutageOfS3, OfASlowStoreIsCaughtUpWithInFewPauses) {
  std::vector<std::string> options = kImpatient;
  options.insert(options.end(), {"--spool-limit", "2MiB", "--max-request-rate", "10"});
  directory_.mount(options);
  application_ = std::make_unique<Application>(directory_);
  application_->work();
  directory_.sync();
  proxy_.inject({.status = 503});
  std::mt19937 random(1);
  std::string noise(1 << 20, '\0');
  for (int file = 0; file < 12; ++file) {
    for (char& c : noise) c = static_cast<char>(random());
    std::ofstream(directory_.path("noise" + std::to_string(file))) << noise;
    application_->work();
  }
  EXPECT_TRUE(wait_until([&] { return directory_.status()["paused"].is_object(); }));
  proxy_.heal();
  while (!HasFailure() &&
         run_program({walfs_binary(), "sync", directory_.path(), "--timeout", "1s"}, Seconds(60))
                 .status != 0) {
    application_->work();
  }
  expect_all_is_there();
  EXPECT_LE(log_lines(directory_, "replication pauses"), 3U) << directory_.log_tail();
}

// The first upload has its own threads and a queue of its own.
TEST_F(OutageOfS3, DuringTheFirstUploadIsCaughtUpWith) {
  std::mt19937 random(1);
  std::string text(3 << 20, '\0');
  for (char& c : text) c = static_cast<char>(random());
  for (int i = 0; i < 4; ++i)
    std::ofstream(directory_.source() + "/big" + std::to_string(i)) << i << text;
  proxy_.inject({.fault = Fault::kStatus, .method = "PUT", .percent = 50, .status = 500});
  proxy_.inject({.fault = Fault::kLostAnswer, .method = "PUT", .percent = 20});
  std::vector<std::string> options = kImpatient;
  Output mounted;
  // The claim of a new replica has to succeed.
  for (int i = 0; i < 20 && (i == 0 || mounted.status != 0); ++i)
    mounted = directory_.try_mount(options);
  ASSERT_EQ(mounted.status, 0) << mounted.text;
  application_ = std::make_unique<Application>(directory_);
  work_until_met(kFaultsSeen);
  expect_all_is_there();
}

TEST_F(OutageOfS3, WhileNothingIsMountedIsCaughtUpWith) {
  begin();
  application_.reset();
  directory_.unmount();
  proxy_.inject({.status = 503});
  directory_.mount(kImpatient);
  EXPECT_NE(directory_.status().value("fencing", "").find("unknown: "), std::string::npos);
  application_ = std::make_unique<Application>(directory_);
  work_until_met(kFaultsSeen);
  expect_all_is_there();
}

TEST_F(OutageOfS3, IsNotMadeWorseByMoreRequestsThanAllowed) {
  std::vector<std::string> options = kImpatient;
  options.insert(options.end(), {"--max-request-rate", "5"});
  directory_.mount(options);
  application_ = std::make_unique<Application>(directory_);
  proxy_.inject({.fault = Fault::kResetInRequest});
  const size_t before = proxy_.requests();
  const auto start = std::chrono::steady_clock::now();
  work_until_met(8);
  const auto seconds =
      std::chrono::duration_cast<Seconds>(std::chrono::steady_clock::now() - start);
  // Of any second, however long it all took.
  EXPECT_LE(proxy_.requests() - before, 5 * (static_cast<size_t>(seconds.count()) + 2));
  expect_all_is_there();
}

}  // namespace
}  // namespace walfs::test
