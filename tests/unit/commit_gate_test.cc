// Commits that wait for the store: in groups, by each policy, on a clock of the test's.
#include "fs/tracking/commit_gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <map>

namespace walfs {
namespace {

// A store of which the test says how far it is, and those who wait.
class Bench {
 public:
  explicit Bench(SyncPolicy policy) {
    CommitGate::Steps steps;
    steps.seal = [this] {
      ++seals;
      return sealing ? std::optional(Position{++sealed}) : std::nullopt;
    };
    steps.stored = [this](Position position, std::chrono::milliseconds wait) {
      if (stored < position.value) std::this_thread::sleep_for(wait);
      return stored >= position.value;
    };
    steps.hopeless = [this] { return hopeless.load(); };
    steps.caught_up = [this] { return stored >= sealed; };
    steps.now_ms = [this] { return now_ms.load(); };
    gate = std::make_unique<CommitGate>(std::move(steps), policy, 1000);
  }

  void commit(int who) {
    gate->wait([this, who](int error) {
      const std::scoped_lock lock(mutex);
      answers[who] = error;
      changed.notify_all();
    });
  }
  // The answer, which must come.
  int answer(int who) {
    std::unique_lock lock(mutex);
    const bool came =
        changed.wait_for(lock, std::chrono::seconds(30), [&] { return answers.contains(who); });
    return came ? answers[who] : -1;
  }
  bool answered(int who) {
    const std::scoped_lock lock(mutex);
    return answers.contains(who);
  }
  void until(const std::function<bool()>& condition) {
    while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  std::atomic<uint64_t> seals{0}, sealed{0}, stored{0};
  std::atomic<bool> sealing{true}, hopeless{false};
  std::atomic<int64_t> now_ms{0};
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int, int> answers;
  std::unique_ptr<CommitGate> gate;
};

TEST(CommitGate, AnswersWhenTheStoreHasTheCommit) {
  Bench bench(SyncPolicy::kWait);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  EXPECT_FALSE(bench.answered(1));
  bench.stored = 1;
  EXPECT_EQ(bench.answer(1), 0);
}

TEST(CommitGate, ThoseWhoComeDuringAnUploadShareTheNextOne) {
  Bench bench(SyncPolicy::kWait);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  for (int who = 2; who <= 20; ++who) bench.commit(who);
  EXPECT_EQ(bench.sealed, 1u);
  bench.stored = 1;
  EXPECT_EQ(bench.answer(1), 0);
  bench.until([&] { return bench.sealed == 2; });
  for (int who = 2; who <= 20; ++who) EXPECT_FALSE(bench.answered(who));
  bench.stored = 2;
  for (int who = 2; who <= 20; ++who) EXPECT_EQ(bench.answer(who), 0);
  EXPECT_EQ(bench.sealed, 2u);
  EXPECT_EQ(bench.gate->status().uploads, 2u);
  EXPECT_EQ(bench.gate->status().held, 20u);
}

TEST(CommitGate, ACommitThatCannotBeSealedYetIsTriedAgain) {
  Bench bench(SyncPolicy::kWait);
  bench.sealing = false;
  bench.commit(1);
  bench.until([&] { return bench.seals > 3; });
  EXPECT_FALSE(bench.answered(1));
  bench.sealing = true;
  bench.until([&] { return bench.sealed == 1; });
  bench.stored = 1;
  EXPECT_EQ(bench.answer(1), 0);
}

TEST(CommitGate, WaitsForEverByDefault) {
  Bench bench(SyncPolicy::kWait);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  bench.now_ms = 1'000'000'000;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(bench.answered(1));
  bench.stored = 1;
  EXPECT_EQ(bench.answer(1), 0);
}

TEST(CommitGate, FailsThoseWhoHaveWaitedForTheTimeoutIfSoWanted) {
  Bench bench(SyncPolicy::kFail);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  bench.now_ms = 600;
  bench.commit(2);
  bench.now_ms = 1000;
  EXPECT_EQ(bench.answer(1), EIO);
  EXPECT_FALSE(bench.answered(2));
  bench.stored = 2;
  EXPECT_EQ(bench.answer(2), 0);
}

TEST(CommitGate, DegradesAndComesBackIfSoWanted) {
  Bench bench(SyncPolicy::kDegrade);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  bench.now_ms = 1000;
  EXPECT_EQ(bench.answer(1), 0);
  EXPECT_TRUE(bench.gate->status().degraded);
  note_committed_by_this_thread();
  EXPECT_FALSE(bench.gate->take_committed()) << "nobody waits while it is degraded";
  bench.stored = bench.sealed.load();
  note_committed_by_this_thread();
  EXPECT_TRUE(bench.gate->take_committed()) << "the store has caught up";
  EXPECT_FALSE(bench.gate->status().degraded);
}

// A writer that was replaced must not acknowledge anything.
TEST(CommitGate, FailsWhateverThePolicyWhenAnotherWriterHasTakenOver) {
  for (const SyncPolicy policy : {SyncPolicy::kWait, SyncPolicy::kFail, SyncPolicy::kDegrade}) {
    Bench bench(policy);
    bench.hopeless = true;
    bench.commit(1);
    EXPECT_EQ(bench.answer(1), EIO);
  }
}

TEST(CommitGate, TheEndFailsWhatTheStoreDoesNotHave) {
  Bench bench(SyncPolicy::kWait);
  bench.commit(1);
  bench.until([&] { return bench.sealed == 1; });
  bench.gate->stop();
  EXPECT_EQ(bench.answer(1), EIO);
  bench.commit(2);
  EXPECT_EQ(bench.answer(2), EIO);
}

TEST(CommitGate, OnlyAThreadThatHasCommittedWaits) {
  Bench bench(SyncPolicy::kWait);
  EXPECT_FALSE(bench.gate->take_committed());
  note_committed_by_this_thread();
  EXPECT_TRUE(bench.gate->take_committed());
  EXPECT_FALSE(bench.gate->take_committed());
}

}  // namespace
}  // namespace walfs
