#include "fs/mount/sync_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <new>
#include <optional>
#include <thread>

namespace walfs {
namespace {

using Joined = SyncAhead::Joined;

class SyncAheadTest : public ::testing::Test {
 protected:
  Joined join() {
    return ahead_.join([](int) { FAIL() << "nobody syncs"; });
  }
  // The application writes and syncs.
  void learn(int changes) {
    for (int i = 0; i < changes; ++i) ahead_.changed();
    if (join() == Joined::kNo) ahead_.run([] { return 0; });
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
  ahead_.run_ahead([] { return 0; });
  EXPECT_EQ(join(), Joined::kCovered);
  EXPECT_EQ(join(), Joined::kCovered);
}

// What an application was told is synced, is.
TEST_F(SyncAheadTest, ASyncBeforeTheLastChangeIsNone) {
  learn(1);
  ahead_.changed();
  ahead_.run_ahead([] { return 0; });
  ahead_.changed();
  EXPECT_EQ(join(), Joined::kNo);
}

TEST_F(SyncAheadTest, AChangeWhileTheSyncRunsIsNotCovered) {
  learn(1);
  ahead_.changed();
  ahead_.run_ahead([&] {
    ahead_.changed();
    EXPECT_EQ(join(), Joined::kNo);
    return 0;
  });
  EXPECT_EQ(join(), Joined::kNo);
}

TEST_F(SyncAheadTest, WhoComesWhileItRunsIsAnsweredAtItsEnd) {
  for (const int outcome : {0, EIO}) {
    learn(1);
    ahead_.changed();
    std::optional<int> answer;
    ahead_.run_ahead([&] {
      EXPECT_EQ(ahead_.join([&](int error) { answer = error; }), Joined::kWaiting);
      EXPECT_FALSE(answer);
      return outcome;
    });
    EXPECT_EQ(answer, outcome);
  }
}

// The kernel tells of a failed write-back once: to a sync ahead, though the application asked for
// another one.
TEST_F(SyncAheadTest, AFailureThatNobodyWaitedForIsToldToTheNextWhoSyncs) {
  learn(1);
  ahead_.changed();
  ahead_.run_ahead([] { return ENOSPC; });
  EXPECT_EQ(join(), Joined::kNo);
  EXPECT_EQ(ahead_.run([] { return 0; }), ENOSPC);
  EXPECT_EQ(ahead_.run([] { return 0; }), 0);
}

TEST_F(SyncAheadTest, WithoutASyncAheadTheCallerSyncsItself) {
  EXPECT_EQ(join(), Joined::kNo);
  ahead_.changed();
  EXPECT_EQ(join(), Joined::kNo);
}

TEST_F(SyncAheadTest, NoMemoryIsAFailure) {
  ahead_.changed();
  EXPECT_EQ(ahead_.run([]() -> int { throw std::bad_alloc(); }), EIO);
  EXPECT_EQ(join(), Joined::kNo);
}

TEST_F(SyncAheadTest, OneSyncRunsAtATimeAndEveryRequestIsAnsweredOnce) {
  constexpr int kRequests = 5000;
  std::atomic<bool> going{true};
  std::atomic<int> inside{0}, failures{0}, told{0}, answered{0};
  const auto sync = [&] {
    EXPECT_EQ(++inside, 1);
    const int count = ++failures;
    --inside;
    return count % 7 == 0 ? EIO : 0;
  };
  std::thread runner([&] {
    while (going) ahead_.run_ahead(sync);
  });
  const auto done = [&](int error) {
    ++answered;
    if (error != 0) ++told;
  };
  for (int i = 0; i < kRequests; ++i) {
    ahead_.changed();
    const Joined joined = ahead_.join(done);
    if (joined == Joined::kCovered) done(0);
    if (joined == Joined::kNo) done(ahead_.run(sync));
  }
  going = false;
  runner.join();
  EXPECT_EQ(answered, kRequests);
  EXPECT_GT(told, 0);
}

}  // namespace
}  // namespace walfs
