// The catalog: what the log says about the directory, kept in a SQLite database in the state
// directory.
//
// It is a function of the log: applying a point here gives the state at that point, with the hash
// of each block. It answers "what has the replica of this file" when a directory is mounted again,
// and it is what a snapshot is made of. Changes collect in a transaction that commit() ends when
// the points that made them are in the spool, so that after a crash the catalog never knows more
// than the log. All functions may be called from several threads; calls are serialised by a lock of
// its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/base/sqlite.h"
#include "replicator/change.h"
#include "replicator/snapshot.h"

namespace walfs {

// What the replica has of one file's content.
struct ContentState {
  uint32_t block_size = 0;
  uint64_t size = 0;
  bool database = false;
  bool scanned = false;  // Every block is known; else some hashes may be kUnknownHash.
  std::vector<uint64_t> hashes;
  // Partial points have left it in the middle of something: it is no state that the file ever had.
  bool torn = false;

  uint64_t block_count() const {
    return block_size == 0 ? 0 : (size + block_size - 1) / block_size;
  }
};

// How a regular file looked when its content was last known to equal the replica's.
struct Signature {
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  bool operator==(const Signature&) const = default;
};

struct CatalogHeader {
  std::string volume;  // "" in a catalog that was never begun.
  std::string url;
  std::string token;          // Of the newest epoch's claim.
  std::string earlier_token;  // Of an earlier one, which may arrive yet; "" if there is none.
  uint64_t epoch = 0;
  bool claimed = false;        // The store has the epoch; else the uploader has yet to claim it.
  Position parent;             // The epoch's parent.
  Position position;           // The last point in the spool or the store.
  Position uploaded;           // The store has everything up to here, and perhaps more.
  Position complete;           // The last one that is not partial.
  bool snapshot_done = false;  // A first snapshot of this state is in the store.
  bool clean =
      false;  // Signatures are valid: nothing was changed through us since they were saved.
};

using Inodes = std::vector<std::pair<FileId, uint64_t>>;

// A point as it was applied. The bytes of its blocks are not needed.
struct AppliedPoint {
  Point point;
  Inodes inodes;
};

class Catalog {
 public:
  // Opens or creates; a file that is damaged or of another version is replaced by an empty catalog.
  static Result<std::unique_ptr<Catalog>> open(const std::string& path);

  CatalogHeader header() const;
  Status set_header(const CatalogHeader& header);
  Status set_claimed();
  Status set_snapshot_done();
  // Fails while points are applied that are not committed: no other than commit() may commit them.
  Status set_clean();
  // Durable with the next commit().
  Status note_uploaded(Position uploaded);
  // Forgets all files; the header stays.
  Status wipe();
  // Above all ids that files ever had, dropped ones included.
  FileId new_id();

  // Baseline: what a first snapshot will hold, not part of the log.
  Status put_file(FileId id, const Attributes& attributes);
  Status put_entry(FileId parent, const std::string& name, FileId child);
  // Content as first read: hashes from block first_block on. Hashes that the log has set already
  // stay.
  Status put_scanned(FileId id, const ContentState& state, uint64_t first_block,
                     std::span<const uint64_t> hashes);
  Status put_extent(FileId id, uint64_t file_offset, uint64_t size, const ChunkRef& chunk,
                    uint64_t chunk_offset);

  Status set_inode(FileId id, uint64_t inode);
  // All of the point and the inodes that go with it, or nothing if this fails.
  Status apply(const Point& point, const Inodes& inodes = {});
  // True after a failure (a full disk) in which everything since the last commit was lost. Until it
  // is had again all other functions that read or change rows fail.
  bool transaction_lost() const;
  // The same, and what was lost is the state that a first upload had read: it begins anew.
  bool baseline_lost() const;
  // Starts a new transaction with all points since the last commit; nothing has changed if that
  // fails. Fails if the baseline was lost.
  Status begin_again(std::span<const AppliedPoint> points);
  // Makes everything since the last commit durable, with the given position. Against a power cut,
  // too: a catalog that is older than what the store has could only begin anew.
  Status commit(Position position);

  struct FileRow {
    FileId id = kNoFile;
    uint64_t inode = 0;
    Attributes attributes;
    std::optional<Signature> signature;
    bool torn = false;
  };
  Status for_each_file(const std::function<void(const FileRow&)>& visit);
  Status for_each_entry(const std::function<void(const SetEntry&)>& visit);
  // Nothing for a file that the catalog does not know, or that never had content.
  Result<std::optional<ContentState>> content(FileId id);
  // The whole state with the extents of the scan. `range` and the time are the caller's, who also
  // keeps points from being applied meanwhile.
  Result<Snapshot> snapshot(PositionRange range, int64_t time_ns);
  Status save_signature(FileId id, const Signature& signature);

 private:
  struct Statements;
  explicit Catalog(std::unique_ptr<SqlDatabase> database);
  static Result<std::unique_ptr<Catalog>> open_existing(const std::string& path);
  Status prepare();
  Status read_header();
  void note_id(FileId id);  // It was given, and is never given again.
  // Fails if the transaction was lost.
  Status check() const;
  void roll_back();
  Status apply_whole(const Point& point, const Inodes& inodes);
  Status apply_changes(const Point& point, const Inodes& inodes);
  Status apply_content(const SetContent& change, bool torn);
  enum class Existing { kKeep, kReplace };
  Status update_hashes(FileId id, uint64_t block_count, const std::vector<BlockChange>& blocks,
                       uint64_t missing, Existing existing);
  Status add_extents(SnapshotFile& file, Snapshot& snapshot,
                     std::map<Sha256Digest, uint32_t>& chunk_numbers);
  Status load_hashes(FileId id, ContentState& state);
  Status write_header(const CatalogHeader& header);

  mutable std::mutex mutex_;
  std::unique_ptr<SqlDatabase> database_;
  std::unique_ptr<Statements> sql_;
  CatalogHeader header_;
  Position applied_complete_;      // As header_.complete, with what is not committed.
  bool uncommitted_ = false;       // Points were applied since the last commit.
  bool baseline_is_kept_ = false;  // header_.snapshot_done as it was committed.
  FileId next_id_ = kRootId + 1;

 public:
  ~Catalog();
};

}  // namespace walfs
