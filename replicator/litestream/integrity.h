// SQLite's own opinion of a restored database.
#pragma once

#include <atomic>
#include <string>

#include "replicator/base/result.h"

namespace walfs::litestream {

// Runs PRAGMA integrity_check on the open file, which is only read. kDamaged, naming `what`, if it
// finds something. Succeeds where SQLite cannot tell, because the schema uses a function or a
// collation of the application. kCancelled once the flag is set.
Status check_integrity(int fd, const std::string& what, const std::atomic<bool>* cancelled);

}  // namespace walfs::litestream
