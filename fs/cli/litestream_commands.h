// What restore and history do with a replica of Litestream.
#pragma once

#include "fs/cli/commands.h"
#include "replicator/base/result.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs {

Status restore_from_litestream(Store& store, const RestoreArguments& arguments,
                               const RestoreOptions& options);
Status print_litestream_history(Store& store, bool as_json);

}  // namespace walfs
