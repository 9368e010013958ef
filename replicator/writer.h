// How a writer begins: which replica it writes to, whether it may, and on what it builds.
#pragma once

#include <string>

#include "replicator/base/result.h"
#include "replicator/catalog.h"
#include "replicator/epoch.h"
#include "replicator/stores/store.h"

namespace walfs {

struct WriterStart {
  Epoch epoch;
  // kUnclaimed: the store could not be reached; the uploader claims later.
  Fencing fencing = Fencing::kUnclaimed;
  bool fresh = false;             // Nothing that is there is built on: a first upload is needed.
  bool store_has_chunks = false;  // From a first upload that was interrupted, perhaps.
  Position start;                 // The position before the first point.
  Position newest;                // The last point that there is, of an earlier epoch mostly.
  Position uploaded;              // What the store has when the writer starts,
  Position proven;                // and up to where that is known and not only believed.
  std::vector<PositionRange> spooled;
};

// Decides by the catalog, the spool and the store. Clears the spool of what can't be used and, for
// a fresh start, the catalog; then writes the catalog's header for the new epoch, and claims it. A
// spool that does not lead from what the store has to the catalog's position (a power cut, somebody
// who wanted room) needs a fresh start. kConflict
// if somebody else writes to the replica, unless `take_over`. Without the store only a fresh start
// fails.
Result<WriterStart> begin_writing(Store& store, Catalog& catalog, const std::string& spool,
                                  const std::string& url, const std::string& holder,
                                  bool take_over);

// The same for a process that takes the place of one that died while the directory was served: its
// epoch goes on behind the last point that was sealed, and the store is not asked. After a first
// upload that was not complete catalog and spool are cleared, and the upload begins again, in a new
// epoch. kDamaged if the catalog is not what that process left.
Result<WriterStart> resume_writing(Catalog& catalog, const std::string& spool,
                                   const std::string& url, const std::string& holder);

}  // namespace walfs
