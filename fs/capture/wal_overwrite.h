// Whether a write to a write-ahead log would destroy something that may be committed.
#pragma once

#include "fs/capture/read_at.h"
#include "replicator/base/bytes.h"

namespace walfs {

// `data` is about to be written at `offset`; `read` reads the log as it is. False if the bytes that
// change belong to no frame of the log's generation: they lie behind its last frame, in what an
// earlier generation left, or the log has no header. Only bytes from the first one that changes are
// looked at: the pages that a log is written in begin with the end of the frame before.
bool wal_write_destroys(const ReadAt& read, uint64_t offset, ByteView data);

}  // namespace walfs
