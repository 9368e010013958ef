// Which LTX files of a v0.5 replica make the database as it was at some time. Pure.
//
// Each file holds the changes of some transactions in a row. Litestream merges small files into
// larger ones of a higher level and removes those after a while; level 9 holds snapshots, which
// begin with the first transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/litestream/plan.h"

namespace walfs::litestream {

struct LtxObject {
  Object object;
  uint32_t level = 0;
  uint64_t first = 0;
  uint64_t last = 0;
};

struct LtxPlan {
  std::vector<LtxObject> objects;  // In the order in which they are laid over each other.
  uint64_t last = 0;
  int64_t time_ns = 0;
};

// The newest state, or the newest that is not after the time: the newest snapshot, and then always
// the file that reaches furthest. kNothingThere if there is none; kDamaged, without a time, if
// files are missing before the newest one.
Result<LtxPlan> make_ltx_plan(std::vector<LtxObject> objects, std::optional<int64_t> until_ns);

// The states that make_ltx_plan finds, by their times, the newest last.
std::vector<PastState> list_ltx_states(std::vector<LtxObject> objects);

}  // namespace walfs::litestream
