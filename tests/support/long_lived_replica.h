// A writer's replica over a long time, with everything that its upkeep does. An hour takes a second
// here, and so on.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "replicator/history.h"
#include "replicator/restore.h"
#include "replicator/upkeep.h"
#include "replicator/verify.h"
#include "tests/support/replica_builder.h"
#include "tests/support/restored_model.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/simulated_store.h"

namespace walfs::test {

inline constexpr int64_t kHour = 1'000'000'000;
inline constexpr uint64_t kDayHours = 24;
inline constexpr uint64_t kKeptHours = 7 * kDayHours;

inline UpkeepPolicy year_policy() {
  UpkeepPolicy policy;
  policy.compaction.levels = {{4 * kHour, 2}, {12 * kHour, 2}, {48 * kHour, 2}};
  policy.compaction.grace_ns = kHour;
  policy.snapshots.interval_ns = 24 * kHour;
  policy.retention.keep_ns = static_cast<int64_t>(kKeptHours) * kHour;
  policy.retention.grace_ns = kHour;
  policy.retention.chunk_grace_ns = 24 * kHour;
  return policy;
}

class LongLivedReplica : public ::testing::Test {
 protected:
  LongLivedReplica() {
    store_.tell_times();
    builder_.add();
    builder_.seal();
    builder_.put_snapshot(Position::of(1, 0), builder_.last());
    begin();
  }
  // The next process.
  void begin(const UpkeepPolicy& chosen = year_policy()) {
    upkeep_ = std::make_unique<Upkeep>(store_, scratch_.path(), chosen, Upkeep::Drive::kSteps);
  }
  // A point, its upload, and an hour.
  void pass_hour() {
    builder_.add();
    builder_.seal();
    upload(builder_.last());
  }
  // An hour with a point that changes nothing, of any epoch.
  void pass_hour_with(Position position) {
    Point point;
    point.position = position;
    point.time_ns = now_ns();
    store_.set_object(segment_key({position, position}), make_segment({point}));
    upload(position);
  }
  // The store has the segment of this point alone.
  void upload(Position position) { upload(PositionRange{position, position}); }
  void upload(PositionRange range) {
    store_.set_time(segment_key(range), now_ns());
    upkeep_->add(range, store_.head(segment_key(range))->size);
    clock_.advance_ms(1000);
  }
  Status work() {
    while (true) {
      const Result<bool> done = upkeep_->step();
      if (!done.ok()) return done.error();
      if (!*done) return {};
    }
  }
  void live(uint64_t hours) {
    for (uint64_t hour = 0; hour < hours; ++hour) {
      pass_hour();
      const Status worked = work();
      ASSERT_TRUE(worked.ok()) << worked.error().message;
    }
  }
  void expect_point(Position position) {
    ScratchDirectory place;
    RestoreOptions options;
    options.target.position = position;
    const auto report = restore(store_, place.path() + "/restored", options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    expect_tree(builder_.state(position), kRootId, place.path() + "/restored");
  }
  // Of the last seven days each point can be restored.
  void expect_kept() {
    const uint64_t newest = builder_.last().sequence();
    const uint64_t oldest = newest > kKeptHours ? newest - kKeptHours : 1;
    for (uint64_t sequence = oldest; sequence <= newest; sequence += 41)
      expect_point(Position::of(1, sequence));
    expect_point(builder_.last());
  }
  std::set<std::string> needed_chunks() {
    std::set<std::string> needed;
    const auto objects = store_.objects();
    for (const std::string& key : store_.keys("snapshots/")) {
      const auto snapshot = decode_snapshot(key, objects.at(key));
      EXPECT_TRUE(snapshot.ok());
      for (const ChunkRef& chunk : snapshot->chunks) needed.insert(chunk_key(chunk.digest));
    }
    return needed;
  }

  std::atomic<bool> stopping_{false};
  SimulatedClock clock_;
  ScratchDirectory scratch_;
  MemoryStore store_;
  ReplicaBuilder builder_{store_, 11};
  std::unique_ptr<Upkeep> upkeep_;
};

}  // namespace walfs::test
