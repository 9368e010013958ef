// Databases through the tracker: a real SQLite writes, cuts are made between any two of its calls,
// and everything that was ever a point is restored. Invariants I1, I2, I3 and I6.
#include <gtest/gtest.h>

#include "tests/support/tracked_databases.h"

namespace walfs::test {
namespace {

struct Journal {
  const char* name;
  const char* pragmas;
};

constexpr Journal kJournals[] = {
    {"wal", "PRAGMA page_size=1024; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"},
    {"wal_full",
     "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
     "wal_autocheckpoint=8"},
    {"wal_spill",
     "PRAGMA page_size=512; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA "
     "wal_autocheckpoint=30; PRAGMA cache_size=3; PRAGMA cache_spill=3"},
    {"wal_exclusive",
     "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=1024; PRAGMA journal_mode=WAL; PRAGMA "
     "synchronous=NORMAL; PRAGMA wal_autocheckpoint=20"},
    {"delete", "PRAGMA page_size=1024; PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL"},
    {"truncate", "PRAGMA page_size=4096; PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=NORMAL"},
    {"persist", "PRAGMA page_size=1024; PRAGMA journal_mode=PERSIST; PRAGMA synchronous=FULL"},
    {"delete_spill",
     "PRAGMA page_size=512; PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; PRAGMA "
     "cache_size=3; PRAGMA cache_spill=3"},
    {"persist_exclusive",
     "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=1024; PRAGMA journal_mode=PERSIST; PRAGMA "
     "synchronous=FULL; PRAGMA cache_size=5; PRAGMA cache_spill=5"},
};

class TrackingJournals : public ::testing::TestWithParam<Journal> {};

INSTANTIATE_TEST_SUITE_P(Modes, TrackingJournals, ::testing::ValuesIn(kJournals),
                         [](const auto& journal) { return journal.param.name; });

// I1, I2, I6.
TEST_P(TrackingJournals, EachPointIsTheStateAfterATransactionThoughEachCallIsFollowedByACut) {
  for (const uint32_t seed : seeds(3)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TrackedDirectory directory;
    TrackedDatabases databases(directory);
    // Put off: what was written to a log before its -shm says anything.
    int made = 0, put_off = 0;
    databases.after_change = [&] { ++(directory.cut() ? made : put_off); };
    TrackedWorkload work(databases, "x.db", GetParam().pragmas, seed);
    for (int i = 0; i < 12; ++i) {
      work.step();
      if (i % 4 == 3) {
        directory.cut();
        databases.expect_newest_restored();
      }
    }
    databases.close_all();
    EXPECT_GT(made, 3 * put_off);
    databases.expect_points_are_states();
    directory.sync();
    directory.expect_all_restored();
    if (HasFailure()) return;
  }
}

// The kernel's side of it: pages arrive late and in any order, instants and what belongs to them
// are apart.
class Kernel {
 public:
  Kernel(TrackedDirectory& directory, uint32_t seed) : directory_(directory), random_(seed) {}
  void something() {
    switch (random_() % 6) {
      case 0:
        directory_.mount().write_back_some();
        break;
      case 1:
        if (!instant_) instant_ = directory_.take_instant();
        break;
      case 2:
        end();
        break;
      case 3:
        if (random_() % 8 == 0) directory_.mount().drop_caches();
        break;
      default:
        break;
    }
  }
  // Makes a cut of the instant that was taken, if one was.
  void end() {
    if (!instant_) return;
    directory_.mount().write_back_all();
    directory_.cut(*instant_);  // Or put off, until the next one.
    instant_.reset();
  }

 private:
  TrackedDirectory& directory_;
  std::mt19937 random_;
  std::optional<Cut> instant_;
};

// I1, I2, I3, I6.
TEST_P(TrackingJournals, EachPointIsTheStateAfterATransactionThoughPagesArriveLateAndInAnyOrder) {
  for (const uint32_t seed : seeds(6)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TrackedDirectory directory({.page_cache = true, .seed = seed});
    TrackedDatabases databases(directory);
    Kernel kernel(directory, seed);
    databases.after_change = [&] { kernel.something(); };
    TrackedWorkload work(databases, "x.db", GetParam().pragmas, seed);
    for (int i = 0; i < 20; ++i) {
      work.step();
      if (i % 8 == 7) {
        kernel.end();
        for (int pause = 0; pause < 4; ++pause) directory.cut();
        databases.expect_newest_restored();
      }
    }
    databases.close_all();
    kernel.end();
    databases.expect_points_are_states();
    directory.sync();
    directory.expect_all_restored();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace walfs::test
