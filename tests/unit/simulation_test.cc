// The whole replicator under everything that can happen to it; see tests/support/simulation.h.
#include "tests/support/simulation.h"

#include <gtest/gtest.h>

#ifdef __SANITIZE_ADDRESS__
#define WALFS_SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WALFS_SLOW_BUILD 1
#endif
#endif

namespace walfs::test {
namespace {

#ifdef WALFS_SLOW_BUILD
constexpr uint32_t kSeeds = 40;
#else
constexpr uint32_t kSeeds = 200;
#endif

// I1, I6. The last acknowledged is the last sync, or, where commits wait for the store, the last
// commit.
TEST(Simulation, WhateverHappensARestoreIsACommittedStateThatIsNotOlderThanTheLastAcknowledged) {
  const std::vector<uint32_t> all = seeds(kSeeds);
  size_t partial_points = 0;
  size_t commits_returned = 0;
  size_t sectors_damaged = 0;
  size_t catalog_faults = 0;
  size_t compactions = 0;
  size_t thinned_segments = 0;
  for (const uint32_t seed : all) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.run(120);
    if (HasFailure()) return;
    partial_points += simulation.partial_points();
    commits_returned += simulation.commits_returned();
    sectors_damaged += simulation.sectors_damaged();
    catalog_faults += simulation.catalog_faults();
    compactions += simulation.compactions();
    thinned_segments += simulation.thinned_segments();
  }
  EXPECT_TRUE(all.size() < 100 || partial_points > 0);
  EXPECT_TRUE(all.size() < 100 || commits_returned > 0);
  EXPECT_TRUE(all.size() < 100 || sectors_damaged > 0);
  EXPECT_TRUE(all.size() < 100 || catalog_faults > 0);
  EXPECT_TRUE(all.size() < 100 || compactions > 0);
  EXPECT_TRUE(all.size() < 100 || thinned_segments > 0);
  RecordProperty("thinned_segments", std::to_string(thinned_segments));
  RecordProperty("compactions", std::to_string(compactions));
  RecordProperty("catalog_faults", std::to_string(catalog_faults));
  RecordProperty("sectors_damaged", std::to_string(sectors_damaged));
  RecordProperty("commits_returned", std::to_string(commits_returned));
  RecordProperty("partial_points", std::to_string(partial_points));
}

}  // namespace
}  // namespace walfs::test
