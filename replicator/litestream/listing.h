// What lies in a store: a replica of ours, or one of Litestream.
#pragma once

#include <vector>

#include "replicator/base/result.h"
#include "replicator/litestream/ltx_plan.h"
#include "replicator/litestream/plan.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

enum class ReplicaKind { kWalfs, kLitestream };

// kNothingThere, in words, if there is neither.
Result<ReplicaKind> recognise_replica(Store& store);

// All generations with what they hold. Times are rounded up to the milliseconds in which people
// see them, so that a time that was shown includes what it was shown for.
Result<std::vector<Generation>> list_generations(Store& store);

// All files of v0.5, with the times of the store.
Result<std::vector<LtxObject>> list_ltx_objects(Store& store);
// Replaces those times by the ones in the files' headers, which are earlier: files are merged, or
// copied to another store, long after their transactions.
Status read_ltx_times(Store& store, std::vector<LtxObject>& objects, const RestoreOptions& options);

// What can be restored, of both formats, the newest last.
Result<std::vector<PastState>> read_states(Store& store);

}  // namespace walfs::litestream
