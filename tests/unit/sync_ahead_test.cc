#include "fs/mount/sync_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

namespace walfs {
namespace {

class SyncAheadTest : public ::testing::Test {
 protected:
  // Asks for a sync: what it was answered, or nothing if the caller has to sync itself.
  std::optional<int> join() {
    std::optional<int> answer;
    const bool joined = ahead_.join([&](int error) { answer = error; });
    EXPECT_EQ(joined, answer.has_value());
    return answer;
  }
  void learn(int changes) {
    for (int i = 0; i < changes; ++i) ahead_.changed();
    join();
  }
  SyncAhead ahead_;
};

TEST_F(SyncAheadTest, ExpectsASyncAfterAsManyChangesAsBeforeTheLast) {
  EXPECT_FALSE(ahead_.expected());
  ahead_.changed();
  EXPECT_FALSE(ahead_.expected()) << "nobody has ever synced";
  learn(2);  // Three with the one above.
  ahead_.changed();
  EXPECT_FALSE(ahead_.expected());
  ahead_.changed();
  ahead_.changed();
  EXPECT_TRUE(ahead_.expected());
  ahead_.changed();
  EXPECT_FALSE(ahead_.expected());
}

TEST_F(SyncAheadTest, ASyncThatCameAfterTheLastChangeIsTheAnswer) {
  learn(1);
  ahead_.changed();
  ahead_.run([] { return 0; });
  EXPECT_EQ(join(), 0);
  EXPECT_EQ(join(), 0);
}

// What an application was told is synced, is.
TEST_F(SyncAheadTest, ASyncBeforeTheLastChangeIsNone) {
  learn(1);
  ahead_.changed();
  ahead_.run([] { return 0; });
  ahead_.changed();
  EXPECT_EQ(join(), std::nullopt);
}

TEST_F(SyncAheadTest, AChangeWhileTheSyncRunsIsNotCovered) {
  learn(1);
  ahead_.changed();
  ahead_.run([&] {
    ahead_.changed();
    EXPECT_EQ(join(), std::nullopt);
    return 0;
  });
  EXPECT_EQ(join(), std::nullopt);
}

TEST_F(SyncAheadTest, WhoComesWhileItRunsIsAnsweredAtItsEnd) {
  for (const int outcome : {0, EIO}) {
    learn(1);
    ahead_.changed();
    std::optional<int> answer;
    ahead_.run([&] {
      EXPECT_TRUE(ahead_.join([&](int error) { answer = error; }));
      EXPECT_FALSE(answer);
      return outcome;
    });
    EXPECT_EQ(answer, outcome);
  }
}

// The kernel forgets a failed write-back once it has told of it.
TEST_F(SyncAheadTest, AFailureThatNobodyWaitedForIsToldOnce) {
  learn(1);
  ahead_.changed();
  ahead_.run([] { return ENOSPC; });
  EXPECT_EQ(join(), ENOSPC);
  EXPECT_EQ(join(), std::nullopt) << "what failed is not synced";
}

TEST_F(SyncAheadTest, WithoutASyncAheadTheCallerSyncsItself) {
  EXPECT_EQ(join(), std::nullopt);
  ahead_.changed();
  EXPECT_EQ(join(), std::nullopt);
}

TEST_F(SyncAheadTest, EveryRequestIsAnsweredOnceWhileOthersSyncAndWrite) {
  constexpr int kRequests = 5000;
  std::atomic<bool> going{true};
  std::thread runner([&] {
    while (going) ahead_.run([] { return 0; });
  });
  std::atomic<int> answered{0};
  int own = 0;
  for (int i = 0; i < kRequests; ++i) {
    ahead_.changed();
    if (!ahead_.join([&](int error) { answered += error == 0 ? 1 : kRequests; })) ++own;
  }
  going = false;
  runner.join();
  EXPECT_EQ(answered + own, kRequests);
}

}  // namespace
}  // namespace walfs
