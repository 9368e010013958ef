// What we know of one inode: what the replica has of its content, and what was written to it since.
//
// The state of a database is its file at a commit boundary, overlaid with the committed frames of
// its write-ahead log; of an ordinary file simply its bytes. `dirty` says which bytes of the file
// may differ from the blocks whose hashes are known. Capturing compares them and makes a commit of
// the blocks that differ (I5): whether a journal ended with a commit or a rollback need not be
// known, only that the file is at a boundary then.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fs/capture/byte_ranges.h"
#include "fs/capture/wal_follower.h"
#include "fs/tracking/commit.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/catalog.h"

namespace walfs {

inline constexpr uint32_t kOrdinaryBlockSize = 16384;

enum class Role {
  kContent,   // A regular file that is replicated: a database or an ordinary file.
  kNameOnly,  // A directory, symbolic link or special file: name and attributes.
  kWal,       // Companions of a database, which are not replicated.
  kShm,
  kJournal,
  kSuperJournal,
  kGone,  // Unlinked everywhere.
};

// Why a database's dirty bytes can't be taken at the next boundary as they are.
enum class Doubt {
  kNone,
  kUnverified,  // Changed while nobody looked: compared first, then taken at any boundary.
  kUnknown,     // The same, and whether pages have not arrived is not known: as kUnsynced, until a
                // sync is seen.
  kUnsynced,    // Written without fsync: only a pause shows that all of a transaction has arrived.
};

struct FileState;

// The content of a file with Role::kContent. Guarded by FileState::mutex.
struct Content {
  ContentState known;     // After all commits, those that still wait included.
  uint64_t checksum = 0;  // The sum of the known hashes.
  uint64_t unknown = 0;   // How many hashes are kUnknownHash.
  ByteRanges dirty;
  bool size_dirty = false;
  std::deque<Commit> commits;  // Wait for their points.
  // What was taken while other blocks could not be read: no commit before they are.
  std::optional<Commit> unfinished;
  bool torn = false;         // The newest commit is; if there is none, the log.
  bool torn_in_log = false;  // What the log has is torn.

  // Of databases.
  uint64_t last_commit_order = 0;  // Only where commits wait for the store.
  Doubt doubt = Doubt::kNone;
  bool journal_open = false;
  std::optional<uint32_t> journal_nonce;
  bool synced = true;                // fsynced since the last write.
  bool synced_in_generation = true;  // fsynced since the header of the log was written.
  // What that was for the generation before, from the header's write until a scan meets it.
  std::optional<bool> generation_before_synced;
  std::shared_ptr<FileState> wal, journal;
  std::shared_ptr<FileState> hot_journal;  // While it is kept (FileState::kept_hot).
  bool hot_journal_ended = false;          // Its transaction has: it is void.
  bool has_shm = false;                    // Then heads tell how far it is committed.
  WalFollower follower;
  uint64_t generation_base = 0;  // Of logs that were followed before this one.
  std::deque<std::pair<WalSalts, uint64_t>> generations;  // The newest ones, to place heads.
  uint64_t wal_written_from = UINT64_MAX;  // Lowest byte of the log written since the last scan.
  uint64_t wal_unread = 0;                 // Bytes written to the log since the last scan.
  bool dirty_is_new = false;  // Written to since the last look at what a checkpoint wrote.

  // Boundaries of files without a journal.
  int64_t last_write_ns = 0;  // Steady clock.
  int64_t dirty_since_ns = 0;
  unsigned quiet_cuts = 0;  // Cuts since the last write.
  bool boundary = false;    // fsynced or closed since the last write.
  bool comparing =
      false;  // Somebody reads all of it to find what differs; not to be captured meanwhile.
  bool scanned_dirty = false;  // Read by the first upload in a state that may not be committed.
};

struct FileState : std::enable_shared_from_this<FileState> {
  FileState(FileId file_id, uint64_t inode_number) : id(file_id), inode(inode_number) {}

  const FileId id;
  const uint64_t inode;
  std::mutex mutex;  // For all below. Never held while another file's is taken, but a log's base's.

  Role role = Role::kNameOnly;
  bool is_regular = false;
  int path_fd = -1;       // Of the mount, while attached.
  FileDescriptor own_fd;  // O_RDONLY, opened when first needed.
  // errno of a read that failed in the last capture; what it was to take waits.
  int read_error = 0;
  unsigned writers = 0;
  std::shared_ptr<FileState> base;   // The database of a companion.
  std::unique_ptr<Content> content;  // Loaded when first needed.
  // A journal that was hot when we began: the replica has it as a file, so that SQLite finds in a
  // restored directory what it would have found here, until its transaction has ended.
  std::atomic<bool> kept_hot{false};
  std::atomic<bool> kept_whole{false};     // The next point has its bytes.
  std::atomic<uint64_t> created_order{0};  // When the log got its name; 0: before we began.
  std::atomic<uint64_t> gone_order{0};     // When it was unlinked; 0 while it is there.
  bool listed = false;                     // In the tracker's list of files with something to do.
  bool touched = false;                    // Something of it may not be in the sealed log.
  std::atomic<bool> known_synced{false};   // TouchedFiles::is_synced().

  // Guarded by the tracker's lock of names.
  std::shared_ptr<FileState> parent;
  std::string name;
};

// Opens a descriptor of the file that outlives the mount's. False if that fails.
bool open_own(FileState& file);
// Closes it, unless it is needed: what is attached can be opened again, and there are only so many
// descriptors. A burst of new files must not need one more for each. The lock is held.
void let_go_of_descriptor(FileState& file);
// Reads up to into.size() bytes; fewer at the end of the file, and if it can't be read, which
// read_error then says: what can't be read is not empty.
size_t read_file(FileState& file, uint64_t offset, std::span<uint8_t> into);
// The file's size, or nothing if it can't be had; then read_error says why.
std::optional<uint64_t> file_size(FileState& file);

// Block size and kind by the first bytes of the content (the log's page 1 included).
struct ContentKind {
  uint32_t block_size = kOrdinaryBlockSize;
  bool database = false;
};
ContentKind detect_kind(FileState& file);

inline bool has_descriptor(const FileState& file) {
  return file.path_fd >= 0 || file.own_fd.valid();
}

// Returns when the file has its role: whoever has found it first may still be about to decide.
// Called without locks.
void wait_for_role(FileState& file);
// The size of the state: of the log's last commit if it has one, else the file's. Zero with
// read_error if that can't be had.
uint64_t logical_size(FileState& file);

// Reads a block of the state: from the log if that covers it, else from the file. Returns the bytes
// read.
size_t read_logical(FileState& file, uint64_t block, std::span<uint8_t> into);

// Compares the dirty blocks with what is known and makes a commit of those that differ; nothing if
// all are the same and the file was not torn. The caller says that the file is at a boundary.
// Clears `dirty`, but for blocks that could not be read: then read_error says why, there is no
// commit, and the next call makes one of all. The lock is held.
std::optional<Commit> capture_dirty(FileState& file, const std::string& spool);

// Takes what differs between two offsets, a multiple of nothing in particular, whether the file is
// at a boundary or not: most of a large difference, while nobody needs a state of it. What was
// written there before counts as compared. The file is torn until capture_dirty() takes the rest.
// How many bytes of blocks were taken. The lock is held.
uint64_t capture_part(FileState& file, uint64_t begin, uint64_t end, const std::string& spool);

// Takes the log's new transactions as commits (I1, I2). Under doubt their pages become dirty
// instead. The locks of the database and of its log are held; `database.content->wal` is set. How
// many there were.
size_t capture_wal(FileState& database, const std::string& spool, uint64_t order);

// Tells of a write to the start of the log before it is made: perhaps a new generation begins; then
// true. What the log held was captured already. The lock of the database is held.
bool expect_wal_header(FileState& database, ByteView first_bytes);

// Stops following the log: it was removed, so what it held is in the database file. The lock is
// held.
void end_wal(FileState& database);

// Looks at what a checkpoint wrote: bytes that equal the known state, or that the log covers, are
// fine; anything else is doubt. The lock is held.
void check_checkpointed(FileState& database);

}  // namespace walfs
