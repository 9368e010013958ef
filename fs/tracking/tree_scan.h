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

// Corrects the paths of files that were renamed. One that is renamed at this moment may be missed.
Status find_again(Tracker& tracker, std::vector<UnreadFile>& files);

// Which files need not be read, because their content is what the catalog says.
enum class Trust {
  kNothing,
  kSignatures,  // The last server ended in order: files that look as they did.
  kUntouched,  // The last server died, and the kernel's cache lives on: files that the tracker does
               // not list as touched.
};

// `fresh`: the (empty) catalog is filled with what is there. Otherwise the differences are recorded
// as one event of the tracker. Logs and journals with content are opened.
Result<TreeScan> scan_tree(int root_fd, Tracker& tracker, Catalog& catalog, bool fresh,
                           Trust trust);

// Notes how every regular file looks now, for the next start; of what is not in the log (a
// transaction is open), that it must be read.
Status save_signatures(int root_fd, Tracker& tracker, Catalog& catalog);

}  // namespace walfs
