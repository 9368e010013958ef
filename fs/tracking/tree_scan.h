// Looks at the whole backing directory before it is served: which files are there, and how they
// differ from what the catalog says. Names and attributes are compared here; content only by its
// signature (size and times).
#pragma once

#include <sys/stat.h>

#include <functional>
#include <string>
#include <vector>

#include "fs/tracking/tracker.h"
#include "replicator/catalog.h"

namespace walfs {

// A regular file whose content must be read: all of it in a fresh start, else what may have
// changed.
struct UnreadFile {
  FileId id = kNoFile;
  std::string path;
  uint64_t size = 0;
};

struct TreeScan {
  std::vector<UnreadFile> unread;
  uint64_t unread_bytes = 0;
  uint64_t files = 0;
};

// `fresh`: the (empty) catalog is filled with what is there. Otherwise the differences are recorded
// as one event of the tracker; signatures are trusted if `clean`. Logs and journals with content
// are opened.
Result<TreeScan> scan_tree(int root_fd, Tracker& tracker, Catalog& catalog, bool fresh, bool clean);

// Notes how every regular file looks now, for the next start.
Status save_signatures(int root_fd, Tracker& tracker, Catalog& catalog);

}  // namespace walfs
