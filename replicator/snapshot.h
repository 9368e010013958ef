// A snapshot: the state of a directory as one object that refers to chunks (FORMAT.md,
// "Snapshots").
//
// Names, attributes, sizes and checksums are those of `range.last`. The content was read while the
// application wrote, after `range.first`: blocks that changed in between are in the log, so the
// content at range.last (or any later point) is the chunks' bytes overlaid with the log's blocks
// from behind range.first on (I9).
#pragma once

#include <string>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"
#include "replicator/change.h"
#include "replicator/keys.h"

namespace walfs {

inline constexpr uint64_t kChunkSizeMax = uint64_t{1} << 20;

// Bytes of a file that lie in a chunk.
struct Extent {
  uint64_t file_offset = 0;
  uint64_t size = 0;
  uint32_t chunk = 0;  // Index into Snapshot::chunks.
  uint64_t chunk_offset = 0;
};

struct SnapshotFile {
  FileId id = kNoFile;
  Attributes attributes;
  uint32_t block_size = 0;  // 0: a file without content, or one that is empty.
  uint64_t size = 0;
  bool database = false;
  uint64_t checksum = 0;  // At range.last, over all blocks.
  std::vector<Extent> extents;
};

struct ChunkRef {
  Sha256Digest digest{};
  uint64_t size = 0;  // Of the content.
};

struct Snapshot {
  PositionRange range;
  int64_t time_ns = 0;
  std::vector<ChunkRef> chunks;
  std::vector<SnapshotFile> files;
  std::vector<SetEntry> entries;
};

Bytes encode_snapshot(const Snapshot& snapshot);
Result<Snapshot> decode_snapshot(const std::string& name, ByteView object);
// Of the first kSnapshotHeaderSize bytes.
inline constexpr size_t kSnapshotHeaderSize = 60;
Result<int64_t> decode_snapshot_time(const std::string& name, ByteView header);

// A chunk's object: header and compressed content. The key is the content's SHA-256.
Bytes encode_chunk(ByteView content);
Result<Bytes> decode_chunk(const std::string& name, const ChunkRef& expected, ByteView object);

}  // namespace walfs
