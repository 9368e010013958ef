// Moves out: makes of each database in a replica of walfs a replica of Litestream v0.5.
//
// A replica of Litestream holds one database. That of the database with the path P is made in
// DIRECTORY/P, whose URL for Litestream is file://DIRECTORY/P:
//
//   P/ltx/9/0000000000000001-0000000000000001.ltx    the snapshot: the whole database
//   P/ltx/0/0000000000000001-0000000000000001.ltx    the same file
//
// Readers of Litestream begin with the newest snapshot, of level 9. Its writer, however, looks for
// its place in level 0 alone: without a file there it would count from 1 again, and a restore would
// take our snapshot for its first transaction.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

struct ExportedDatabase {
  std::string path;    // Of the database in the replica, and of its new replica in the directory.
  uint64_t bytes = 0;  // Of the database.
};

struct ExportReport {
  Position position;
  int64_t time_ns = 0;
  std::string directory;  // Absolute.
  std::vector<ExportedDatabase> databases;
  uint64_t other_files = 0;  // That were selected, but are no databases.
};

// All of it is made in a new directory beside `directory`, which takes the name at the end;
// `directory` must not be there, or be empty. Everything is for its owner only. Of the options,
// `force` does not count. kNothingThere if there are no databases, or none that `only` names;
// kUnsupported, naming it, if there is one in the middle of a transaction with a journal.
Result<ExportReport> export_databases(Store& store, const std::string& directory,
                                      const RestoreOptions& options);

}  // namespace walfs::litestream
