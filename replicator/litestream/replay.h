// Makes the database of a plan: reads the objects, checks them, and lays them over each other.
#pragma once

#include "replicator/base/result.h"
#include "replicator/litestream/database_file.h"
#include "replicator/litestream/ltx_plan.h"
#include "replicator/litestream/plan.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

// What lies between two commits goes to a file in the directory for a while.
Status replay_plan(Store& store, const Plan& plan, DatabaseFile& database, int directory,
                   const RestoreOptions& options);

// Of v0.5. Sets the plan's time to that in the last file.
Status replay_ltx_plan(Store& store, LtxPlan& plan, DatabaseFile& database,
                       const RestoreOptions& options);

}  // namespace walfs::litestream
