// A segment in the store as it is read from its beginning to its end, by whoever makes another one
// of it.
#pragma once

#include <optional>
#include <string>

#include "replicator/base/result.h"
#include "replicator/replica.h"
#include "replicator/segment.h"
#include "replicator/stores/store.h"

namespace walfs {

// Both arguments must outlive it. Small segments, which is most of them, are read with a single
// request.
class SegmentReader {
 public:
  SegmentReader(Store& store, const StoredObject& segment);

  Result<SegmentIndex> open();
  // Valid until the next call. After open().
  Result<ByteView> block(const SegmentIndex& index, const SetContent& content,
                         const BlockChange& block);
  Result<ByteView> bytes(const SegmentIndex& index, uint64_t data_offset, uint64_t size);

 private:
  Result<Bytes> read(uint64_t offset, uint64_t size);

  Store& store_;
  const StoredObject& segment_;
  const std::string key_;
  Bytes whole_;
  std::optional<size_t> frame_;  // That content_ holds.
  Bytes content_;
};

}  // namespace walfs
