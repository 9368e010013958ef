// Whether all that a replica holds is right.
#pragma once

#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/keys.h"
#include "replicator/position.h"
#include "replicator/stores/store.h"

namespace walfs {

struct VerifyReport {
  uint64_t objects = 0;
  uint64_t bytes = 0;
  uint64_t points = 0;               // That can be restored.
  std::vector<std::string> damaged;  // What is wrong, with the object's key in each.
  std::vector<PositionRange> lost;   // The points that cannot be restored for it, ascending.
};

// Reads every object that a point of the log needs and checks every checksum in it: of frames, of
// each block, of chunks, and of each file's state at the end of each route. What lies behind damage
// is looked at, too, and so is whether the log has a gap. kNothingThere if nothing can be restored;
// another error if the store does not deliver what it has.
Result<VerifyReport> verify_replica(Store& store);

}  // namespace walfs
