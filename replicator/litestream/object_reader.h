// Reads compressed objects one after the other: large ones in ranges, small ones several at once,
// as a log has thousands of them.
#pragma once

#include <atomic>
#include <vector>

#include "replicator/litestream/lz4_frame.h"
#include "replicator/litestream/plan.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"

namespace walfs::litestream {

class ObjectReader {
 public:
  // All that will be read, in this order; the arguments outlive the reader.
  ObjectReader(Store& store, const std::vector<Object>& objects, const RestoreOptions& options);

  // Hands on the next object in parts: as it is stored, or what its LZ4 frame gives. An object
  // without content is kDamaged.
  Status read_stored(const Sink& sink);
  Status read_frame(const Sink& sink);

 private:
  Status fetch_ahead();
  void note_progress(uint64_t bytes);

  Store& store_;
  const std::vector<Object>& objects_;
  const RestoreOptions& options_;
  size_t next_ = 0;
  std::vector<Result<Bytes>> ahead_;  // Small objects that were fetched, the next one at ahead_at_.
  size_t ahead_at_ = 0;
  RestoreProgress progress_;
};

}  // namespace walfs::litestream
