// Which objects of a v0.3 replica make the database as it was at some time. Pure.
//
// A generation has snapshots (the whole database) and, by index and offset, the pieces of every
// write-ahead log that was there since. The state of a piece's end is had from a snapshot of its
// index, or of an earlier one, and all pieces between. Litestream knows no times but those of the
// objects.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"

namespace walfs::litestream {

struct Object {
  std::string key;
  uint64_t size = 0;
  int64_t time_ns = 0;  // 0: the store does not tell.
  uint32_t index = 0;
  uint64_t offset = 0;  // 0 for a snapshot.
};

struct Generation {
  std::string name;
  std::vector<Object> snapshots;  // By index.
  std::vector<Object> pieces;     // By index and offset.
};

struct Plan {
  Object snapshot;
  std::vector<Object> pieces;  // In the order in which they are laid over the snapshot.
  int64_t time_ns = 0;
  std::string position;
};

// The newest state, or the newest that is not after the time. As Litestream does, takes the
// generation with the newest object and the last snapshot of it; but at a time at which the log had
// not yet caught up with that snapshot an earlier one, if there is one. kNothingThere if no state
// is as old as that; kDamaged, naming what is next to it, if an object between is missing.
Result<Plan> make_plan(const std::vector<Generation>& generations, std::optional<int64_t> until_ns);

struct PastState {
  std::string position;
  int64_t time_ns = 0;
};

// The states that make_plan finds, by their times, the newest last; of several in a generation with
// the same time the last one.
std::vector<PastState> list_states(const std::vector<Generation>& generations);

}  // namespace walfs::litestream
