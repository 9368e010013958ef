// What happens to the bytes of files: which may differ from what is known, and when the
// transactions of databases have ended.
#include <algorithm>
#include <array>
#include <utility>

#include "fs/capture/journal.h"
#include "fs/capture/wal_overwrite.h"
#include "fs/tracking/commit_gate.h"
#include "fs/tracking/tracker.h"
#include "replicator/time.h"

namespace walfs {
namespace {

std::shared_ptr<FileState> base_of(FileState& companion) {
  const std::scoped_lock lock(companion.mutex);
  return companion.base;
}

}  // namespace

void Tracker::note_change(const std::shared_ptr<FileState>& file, uint64_t begin, uint64_t end) {
  Content& content = ensure_content(*file);
  const int64_t now = steady_ns();
  if (content.dirty.empty() && !content.size_dirty) content.dirty_since_ns = now;
  content.dirty.add(begin, end);
  content.size_dirty = true;
  content.dirty_is_new = true;
  content.synced = write_through_;
  content.boundary = false;
  content.last_write_ns = now;
  content.quiet_cuts = 0;
  list(file);
}

// The lock is held. The first upload may read the file between a change and its being told, which
// may be part of a transaction that is open.
void Tracker::expect_change(const std::shared_ptr<FileState>& file, uint64_t begin, uint64_t end) {
  if (!ensure_content(*file).known.scanned) note_change(file, begin, end);
}

// Before a log's bytes are overwritten: what was committed there must be known (I3).
void Tracker::before_write(TrackedFile* handle, uint64_t offset, ByteView data) {
  if (handle == nullptr) return;
  std::shared_ptr<FileState> base;
  {
    FileState& file = *handle->state;
    const std::scoped_lock lock(file.mutex);
    if (file.role == Role::kContent) expect_change(handle->state, offset, offset + data.size());
    if (file.role != Role::kWal) return;
    base = file.base;
  }
  if (base == nullptr) return;
  const std::scoped_lock lock(base->mutex);
  const auto& wal = ensure_content(*base).wal;
  if (wal == nullptr) return;
  const ReadAt read = [&](uint64_t at, std::span<uint8_t> into) {
    return read_file(*wal, at, into);
  };
  if (wal_write_destroys(read, offset, data)) capture_wal(*base, spool_, next_order());
  if (offset == 0 && expect_wal_header(*base, data)) note_unsynced(*base);
}

void Tracker::look_before(FileState& wal) {
  if (const auto base = base_of(wal)) read_log(*base);
}

void Tracker::read_log(FileState& database) {
  const std::scoped_lock lock(database.mutex);
  if (ensure_content(database).wal != nullptr) capture_wal(database, spool_, next_order());
}

void Tracker::wrote(TrackedFile* handle, uint64_t offset, uint64_t size) {
  if (handle == nullptr) return;
  const std::shared_ptr<FileState>& file = handle->state;
  std::shared_ptr<FileState> base;
  Role role;
  {
    const std::scoped_lock lock(file->mutex);
    role = file->role;
    base = file->base;
    if (role == Role::kContent) note_change(file, offset, offset + size);
  }
  // Who binds a companion to its database looks at all that is in it.
  if (base == nullptr) return;
  if (role == Role::kWal) {
    const std::scoped_lock lock(base->mutex);
    Content& content = ensure_content(*base);
    content.wal_written_from = std::min(content.wal_written_from, offset);
    content.wal_unread += size;
    content.quiet_cuts = 0;
    list(base);
    if (write_through_ && content.wal != nullptr)
      note_commit(content, capture_wal(*base, spool_, next_order()) != 0);
  } else if (role == Role::kJournal && offset < kJournalHeaderSize) {
    note_journal_write(file);
  }
}

void Tracker::before_range_change(TrackedFile* handle, uint64_t offset, uint64_t size) {
  if (handle == nullptr) return;
  Role role;
  {
    FileState& file = *handle->state;
    const std::scoped_lock lock(file.mutex);
    role = file.role;
    if (role == Role::kContent) {
      const uint64_t end = file_size(file).value_or(0);
      expect_change(handle->state, offset,
                    offset >= end ? offset : offset + std::min(size, end - offset));
    }
  }
  if (role == Role::kWal) look_before(*handle->state);
}

void Tracker::range_changed(TrackedFile* handle, uint64_t offset, uint64_t size) {
  if (handle == nullptr) return;
  // Not beyond the file: an unlimited range would list blocks that are not there.
  const uint64_t end = file_size(*handle->state).value_or(0);
  wrote(handle, offset, offset >= end ? 0 : std::min(size, end - offset));
}

void Tracker::before_truncate(TrackedFile* handle, uint64_t new_size) {
  before_range_change(handle, new_size, UINT64_MAX);
}

void Tracker::truncated(TrackedFile* handle, uint64_t new_size) {
  if (handle == nullptr) return;
  const std::shared_ptr<FileState>& file = handle->state;
  std::shared_ptr<FileState> base;
  Role role;
  {
    const std::scoped_lock lock(file->mutex);
    role = file->role;
    base = file->base;
    if (role == Role::kContent) {
      // The block with the new end has lost its tail. Blocks that a growing file got are zeros, as
      // known.
      const uint64_t block_size = std::max<uint64_t>(ensure_content(*file).known.block_size, 1);
      note_change(file, new_size - new_size % block_size,
                  std::max(new_size, file->content->known.size));
    }
  }
  if (base == nullptr) return;
  if (role == Role::kWal) {
    const std::scoped_lock lock(base->mutex);
    ensure_content(*base).wal_written_from = 0;
    list(base);
  } else if (role == Role::kJournal) {
    if (new_size == 0) {
      end_transaction(base);
    } else {
      note_journal_write(file);
    }
  }
}

// A hint only, and the application waits: whoever holds a lock is perhaps reading the log already.
void Tracker::before_fsync(TrackedFile* handle) {
  constexpr uint64_t kMuch = uint64_t{256} << 10;
  if (handle == nullptr || !on_log_sync_) return;
  std::shared_ptr<FileState> base;
  {
    const std::unique_lock lock(handle->state->mutex, std::try_to_lock);
    if (lock.owns_lock()) base = handle->state->base;
  }
  if (base == nullptr) return;
  {
    const std::unique_lock lock(base->mutex, std::try_to_lock);
    if (!lock.owns_lock() || base->content == nullptr || base->content->wal_unread < kMuch) return;
  }
  on_log_sync_(base);
}

void Tracker::synced(TrackedFile* handle) {
  if (handle == nullptr) return;
  FileState& file = *handle->state;
  std::shared_ptr<FileState> base;
  {
    const std::scoped_lock lock(file.mutex);
    if (file.role == Role::kWal) base = file.base;
    if (file.content != nullptr) {
      file.content->synced = true;
      file.content->synced_in_generation = true;
      file.content->boundary = true;
      if (file.content->known.database || file.content->journal_open) note_synced(file);
    }
  }
  if (base == nullptr || base->known_synced) return;
  // The application waits, and whoever holds the lock is perhaps reading the log.
  const std::unique_lock lock(base->mutex, std::try_to_lock);
  if (lock.owns_lock()) note_synced(*base);
}

// The lock is held. Whoever syncs the log, or the database, has synced before the log began anew.
void Tracker::note_synced(FileState& database) {
  if (database.content != nullptr && database.content->doubt == Doubt::kUnknown) {
    database.content->doubt = Doubt::kUnverified;
    database.content->synced_in_generation = true;
  }
  if (database.known_synced.exchange(true)) return;
  const std::scoped_lock lock(list_mutex_);
  touched_.note_synced(database.inode);
}

void Tracker::note_unsynced(FileState& database) {
  database.known_synced = false;
  const std::scoped_lock lock(list_mutex_);
  touched_.note_unsynced(database.inode);
}

// The lock of the database is held. What an application repeats because a commit of its failed
// waits as that did: a write of which the kernel had passed on a part only, for one.
void Tracker::note_commit(Content& database, bool committed) {
  if (!write_through_) return;
  if (committed) database.last_commit_order = next_order();
  if (database.last_commit_order > stored_order_) note_committed_by_this_thread();
}

// The journal's first bytes tell whether a transaction is under way, and a new nonce that the one
// before has ended.
void Tracker::note_journal_write(const std::shared_ptr<FileState>& journal) {
  std::array<uint8_t, kJournalHeaderSize> first{};
  std::shared_ptr<FileState> base;
  uint64_t size = 0;
  size_t got = 0;
  {
    const std::scoped_lock lock(journal->mutex);
    base = journal->base;
    journal->read_error = 0;
    got = read_file(*journal, 0, first);
    size = file_size(*journal).value_or(0);
    if (journal->read_error != 0) return;
  }
  if (base == nullptr) return;  // Removed meanwhile.
  const ByteView header = ByteView(first).first(got);
  const JournalState state = journal_state(header, size);
  const auto nonce = journal_nonce(header, size);
  bool ended = state == JournalState::kEnded;
  {
    const std::scoped_lock lock(base->mutex);
    Content& content = ensure_content(*base);
    ended = ended || (content.journal_open && nonce && content.journal_nonce &&
                      *nonce != *content.journal_nonce);
  }
  if (ended) end_transaction(base);
  if (state != JournalState::kLive && state != JournalState::kStarting) return;
  const std::scoped_lock lock(base->mutex);
  Content& content = ensure_content(*base);
  content.journal_open = true;
  content.journal_nonce = nonce;
}

// The database file is at a commit boundary now; whether the transaction was committed or rolled
// back, its pages tell.
void Tracker::end_transaction(const std::shared_ptr<FileState>& database) {
  const std::scoped_lock lock(database->mutex);
  Content& content = ensure_content(*database);
  note_commit(content, !content.dirty.empty() || content.size_dirty);
  content.journal_open = false;
  content.journal_nonce.reset();
  content.hot_journal_ended = content.hot_journal != nullptr;
  if (content.dirty.empty() && !content.size_dirty) return forget_hot_journal(content, 0);
  list(database);
  if (!content.synced) {
    note_unsynced(*database);
    content.doubt = Doubt::kUnsynced;
    content.quiet_cuts = 0;
    return;
  }
  // The sync shows that all has arrived, whatever was doubted before it.
  if (content.doubt > Doubt::kUnverified) content.doubt = Doubt::kUnverified;
  // A file that is still being compared as a whole must not hold up the application here.
  constexpr uint64_t kInlineMax = uint64_t{64} << 20;
  if (content.doubt == Doubt::kUnverified && content.dirty.total_bytes() > kInlineMax) return;
  const uint64_t order = next_order();
  if (auto commit = capture_dirty(*database, spool_)) {
    commit->order = order;
    content.commits.push_back(std::move(*commit));
  }
  if (content.doubt == Doubt::kNone) forget_hot_journal(content, order);
}

// Of a transaction over several databases this is the commit: the journals that name it count no
// more.
void Tracker::end_super_journal(const std::string& name) {
  for (const auto& database : all_states()) {
    std::shared_ptr<FileState> journal;
    {
      const std::scoped_lock lock(database->mutex);
      if (database->content == nullptr || !database->content->journal_open) continue;
      journal = database->content->journal;
    }
    if (journal == nullptr) continue;
    std::optional<std::string> super;
    {
      const std::scoped_lock lock(journal->mutex);
      const ReadAt read = [&](uint64_t offset, std::span<uint8_t> into) {
        return read_file(*journal, offset, into);
      };
      super = super_journal_name(read, file_size(*journal).value_or(0));
    }
    if (super && super->substr(super->rfind('/') + 1) == name) end_transaction(database);
  }
}

// A file that is about to get another name: its content must not come later than the name.
void Tracker::capture_now(const std::shared_ptr<FileState>& file) {
  const std::scoped_lock lock(file->mutex);
  if (file->role != Role::kContent || file->content == nullptr) return;
  Content& content = *file->content;
  const bool something = !content.dirty.empty() || content.size_dirty;
  if (!something || content.journal_open || content.follower.following()) return;
  if (content.known.database && file->writers > 0) return;
  if (auto commit = capture_dirty(*file, spool_)) {
    // What an ordinary file has now may be in an earlier instant, and what it had then must be.
    if (content.known.database) commit->order = next_order();
    content.commits.push_back(std::move(*commit));
    list(file);
  }
}

}  // namespace walfs
