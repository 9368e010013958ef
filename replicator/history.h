// What can be restored from a replica: its points, and what each has changed.
#pragma once

#include <cstdint>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/keys.h"
#include "replicator/position.h"
#include "replicator/stores/store.h"

namespace walfs {

struct HistoryPoint {
  Position position;
  int64_t time_ns = 0;
  uint64_t bytes = 0;      // Of the content that changed, with the partial points before it.
  uint64_t databases = 0;  // Whose content changed.
  uint64_t files = 0;      // Others that changed: in content, attributes or existence.
};

struct History {
  std::vector<HistoryPoint> points;  // All that can be restored, ascending.
  std::vector<PositionRange> lost;   // In the store and not restorable: the log has a gap before.
  uint64_t segments = 0;
  uint64_t snapshots = 0;
  uint64_t bytes = 0;  // Of both, as they are stored.
};

// Reads the indexes of all segments; no content. kNothingThere if nothing can be restored.
Result<History> read_history(Store& store);

}  // namespace walfs
