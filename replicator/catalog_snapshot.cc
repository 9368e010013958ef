// The catalog's state as a snapshot.
#include <algorithm>
#include <map>

#include "replicator/catalog.h"

namespace walfs {
namespace {

// A block size that came later than the scan has taken the place of everything read before.
bool fit_blocks(const SnapshotFile& file) {
  return file.block_size == 0 ||
         std::all_of(file.extents.begin(), file.extents.end(), [&](const Extent& extent) {
           return extent.file_offset % file.block_size == 0;
         });
}

}  // namespace

Status Catalog::add_extents(SnapshotFile& file, Snapshot& snapshot,
                            std::map<Sha256Digest, uint32_t>& chunk_numbers) {
  const std::scoped_lock lock(mutex_);
  WALFS_ASSIGN(auto extents,
               database_->prepare("SELECT file_offset, size, digest, chunk_size, chunk_offset "
                                  "FROM extents WHERE file = ?1 ORDER BY file_offset"));
  extents.bind(1, file.id);
  while (true) {
    WALFS_ASSIGN(const bool more, extents.step());
    if (!more) return {};
    ChunkRef chunk;
    const ByteView digest = extents.blob(2);
    if (digest.size() != chunk.digest.size())
      return Error{Errc::kDamaged, "the catalog holds no valid digest"};
    std::copy(digest.begin(), digest.end(), chunk.digest.begin());
    chunk.size = extents.integer(3);
    const auto [entry, added] =
        chunk_numbers.emplace(chunk.digest, static_cast<uint32_t>(snapshot.chunks.size()));
    if (added) snapshot.chunks.push_back(chunk);
    file.extents.push_back(
        {extents.integer(0), extents.integer(1), entry->second, extents.integer(4)});
  }
}

Result<Snapshot> Catalog::snapshot(PositionRange range, int64_t time_ns) {
  Snapshot snapshot;
  snapshot.range = range;
  snapshot.time_ns = time_ns;
  std::vector<FileRow> rows;
  WALFS_TRY(for_each_file([&](const FileRow& row) { rows.push_back(row); }));
  WALFS_TRY(for_each_entry([&](const SetEntry& entry) { snapshot.entries.push_back(entry); }));
  std::map<Sha256Digest, uint32_t> chunk_numbers;
  for (FileRow& row : rows) {
    SnapshotFile file;
    file.id = row.id;
    file.attributes = std::move(row.attributes);
    WALFS_ASSIGN(const auto state, content(row.id));
    if (state) {
      file.block_size = state->block_size;
      file.size = state->size;
      file.database = state->database;
      for (const uint64_t hash : state->hashes) {
        if (hash == kUnknownHash)
          return Error{Errc::kIo, "a snapshot was made before everything was read"};
        file.checksum += hash;
      }
    }
    WALFS_TRY(add_extents(file, snapshot, chunk_numbers));
    if (!fit_blocks(file)) file.extents.clear();
    snapshot.files.push_back(std::move(file));
  }
  return snapshot;
}

}  // namespace walfs
