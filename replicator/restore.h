// Rebuilds a directory from a replica.
//
// The work goes into a new directory beside the target; only when everything is there and verified
// is it renamed into place, so that a restore that fails, or is killed, leaves the target as it
// was.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/restore_plan.h"
#include "replicator/stores/store.h"

namespace walfs {

struct RestoreProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct RestoreOptions {
  RestoreTarget target;
  std::vector<std::string> only;  // fnmatch(3) patterns over relative paths; empty = everything.
  bool force = false;             // Replace a target that is not empty.
  unsigned threads = 4;
  std::function<void(const RestoreProgress&)>
      progress;                                  // Called from several threads, one at a time.
  const std::atomic<bool>* cancelled = nullptr;  // Looked at between objects.
};

// kCancelled once the caller has asked to stop.
Status check_cancelled(const RestoreOptions& options);

struct RestoreReport {
  Position position;
  int64_t time_ns = 0;
  uint64_t files = 0;
  uint64_t databases = 0;
  uint64_t bytes = 0;  // Of the files restored.
};

// What a restore would do.
struct RestorePreview {
  RestoreReport report;
  uint64_t fetches = 0;    // Requests for content: chunks, and parts of segments.
  uint64_t bytes_max = 0;  // Of content; chunks count as they are before compression.
};

// Finds the route to the target and makes the plan; reads a snapshot and the indexes of segments,
// no data.
struct RoutedPlan {
  Route route;
  std::vector<SegmentIndex> indexes;  // Of the route's segments, up to the target.
  RestorePlan plan;
};
Result<RoutedPlan> make_restore_plan(Store& store, const RestoreTarget& target);

// Writes the content of one regular file of the plan, and nothing else of it, to `name` in the
// open, empty directory, and compares its checksum. Of the options, threads, progress and cancelled
// count.
Status restore_content(Store& store, const RoutedPlan& routed, FileId id, int directory,
                       const std::string& name, const RestoreOptions& options);

// Reads what a restore reads before it fetches content, and checks the target as it does; writes
// nothing.
Result<RestorePreview> preview_restore(Store& store, const std::string& directory,
                                       const RestoreOptions& options);

// What is left of an earlier restore of this directory that was interrupted is used, after a look
// at each block (restore_proofs.h); one that fails with kCancelled, kRetry or kDenied leaves that.
Result<RestoreReport> restore(Store& store, const std::string& directory,
                              const RestoreOptions& options);

}  // namespace walfs
