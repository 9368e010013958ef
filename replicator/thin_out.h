// Makes one segment of those that follow each other which has few points, for what is so old that
// not every commit is kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/stores/store.h"

namespace walfs {

// Which points stay.
struct Thinning {
  int64_t hour_ns = 0;     // The last one of each hour (wall clock) and of all,
  uint64_t bytes_max = 0;  // and more where one would have blocks of more bytes.
  int64_t newest_ns = 0;   // All, if the last one is newer.
};

// Each point stands for those before it that are gone. Nothing if the last one is partial, which
// can't stand alone, or too new.
//
// Reads the indexes of the segments one after the other, then what is left of their data, one new
// point at a time through a file without a name in the directory `scratch`, and puts the new
// segment at the level. In memory are one index, and one entry of some 100 bytes for each block
// that is left. Otherwise like join_segments().
Result<std::optional<StoredObject>> thin_out(Store& store,
                                             const std::vector<StoredObject>& segments,
                                             const Thinning& thinning, unsigned level,
                                             const std::string& scratch,
                                             const std::atomic<bool>& stopping);

}  // namespace walfs
