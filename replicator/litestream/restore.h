// Rebuilds one database from a replica that Litestream v0.3 or v0.5 wrote.
//
// Everything is checked that can be: all checksums, that no object is missing between two others,
// and at last the database as a whole. Memory does not grow with the database. What cannot be told
// of v0.3 is whether objects are missing at the end of an index, as neither names nor logs say how
// long a log became.
#pragma once

#include <string>

#include "replicator/base/result.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

struct RestoredDatabase {
  std::string position;
  int64_t time_ns = 0;
  uint64_t bytes = 0;
};

// Makes `directory` with the database file `name` in it, as walfs::restore makes a directory: it
// takes its place only when everything is there. kUsage for options that need a walfs replica.
Result<RestoredDatabase> restore_database(Store& store, const std::string& name,
                                          const std::string& directory,
                                          const RestoreOptions& options);

}  // namespace walfs::litestream
