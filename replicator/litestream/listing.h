// What lies in a store: a replica of ours, or one of Litestream.
#pragma once

#include <vector>

#include "replicator/base/result.h"
#include "replicator/litestream/plan.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

enum class ReplicaKind { kWalfs, kLitestream };

// kNothingThere, in words, if there is neither; kUnsupported for a replica of Litestream v0.5.
Result<ReplicaKind> recognise_replica(Store& store);

// All generations with what they hold. Times are rounded up to the milliseconds in which people
// see them, so that a time that was shown includes what it was shown for.
Result<std::vector<Generation>> list_generations(Store& store);

}  // namespace walfs::litestream
