// Files come and go, and their bytes change. Names are in tracker_names.cc, what belongs together
// in companions.cc.
#include "fs/tracking/tracker.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "fs/capture/journal.h"
#include "fs/capture/sqlite_header.h"
#include "fs/capture/wal_overwrite.h"
#include "replicator/time.h"

namespace walfs {
namespace {

std::shared_ptr<FileState> base_of(FileState& companion) {
  const std::scoped_lock lock(companion.mutex);
  return companion.base;
}

}  // namespace

Tracker::Tracker(Catalog& catalog, std::string spool, int root_fd, std::atomic<uint64_t>& order)
    : catalog_(catalog), spool_(std::move(spool)), order_(order) {
  struct stat attributes {};
  if (::fstat(root_fd, &attributes) == 0) device_ = attributes.st_dev;
  root_ = std::make_shared<FileState>(kRootId, attributes.st_ino);
  root_->own_fd = FileDescriptor(::openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  states_.emplace(root_->inode, root_);
  by_id_.emplace(kRootId, root_);
  ids_.emplace(root_->inode, kRootId);
}

// A database and its companions refer to each other.
Tracker::~Tracker() {
  for (const auto& [id, file] : by_id_) file->base.reset();
}

std::shared_ptr<FileState> Tracker::state_for(int path_fd, const struct stat& attributes,
                                              const std::shared_ptr<FileState>& parent,
                                              const char* name) {
  std::shared_ptr<FileState> file;
  bool added = false;
  {
    const std::scoped_lock lock(names_mutex_);
    std::shared_ptr<FileState>& slot = states_[attributes.st_ino];
    if (slot == nullptr || slot->gone_order != 0) {
      const auto known = ids_.find(attributes.st_ino);
      slot = std::make_shared<FileState>(known != ids_.end() ? known->second : new_id(),
                                         attributes.st_ino);
      slot->is_regular = S_ISREG(attributes.st_mode);
      by_id_[slot->id] = slot;
      added = true;
    }
    file = slot;
    if (file->parent == nullptr && parent != nullptr && name != nullptr) {
      file->parent = parent;
      file->name = name;
    }
  }
  if (path_fd >= 0) {
    const std::scoped_lock lock(file->mutex);
    file->path_fd = path_fd;
  }
  if (added) decide_role(file, parent, name);
  return file;
}

TrackedFile* Tracker::attach(int path_fd, const struct stat& attributes, TrackedFile* parent,
                             const char* name) {
  if (attributes.st_dev != device_) return nullptr;
  return new TrackedFile(
      state_for(path_fd, attributes, parent != nullptr ? parent->state : nullptr, name));
}

void Tracker::detach(TrackedFile* handle) {
  if (handle == nullptr) return;
  const std::shared_ptr<FileState> file = handle->state;
  delete handle;
  {
    const std::scoped_lock lock(file->mutex);
    // What still has to be read is read through a descriptor of our own.
    const bool read_later =
        file->listed || file->role == Role::kWal || file->role == Role::kJournal;
    if (read_later && file->role != Role::kGone) open_own(*file);
    file->path_fd = -1;
  }
  prune(file);
}

void Tracker::opened_writable(TrackedFile* handle) {
  if (handle == nullptr) return;
  const std::scoped_lock lock(handle->state->mutex);
  ++handle->state->writers;
}

void Tracker::closed_writable(TrackedFile* handle) {
  if (handle == nullptr) return;
  FileState& file = *handle->state;
  const std::scoped_lock lock(file.mutex);
  if (file.writers > 0) --file.writers;
  if (file.writers == 0 && file.content != nullptr) file.content->boundary = true;
}

Content& Tracker::ensure_content(FileState& file) {
  if (file.content != nullptr) return *file.content;
  file.content = std::make_unique<Content>();
  Content& content = *file.content;
  std::optional<Unread> unread;
  {
    const std::scoped_lock lock(names_mutex_);
    const auto found = unread_.find(file.id);
    if (found != unread_.end()) unread = found->second;
  }
  auto stored = catalog_.content(file.id);
  content.known.scanned = true;
  if (!stored.ok()) {
    // What the replica has is not known: no content has blocks of one byte, so the next capture
    // begins anew and sends everything.
    spdlog::error("{} will be sent anew: {}", path_of(file), stored.error().message);
    content.known.block_size = 1;
    content.size_dirty = true;
    content.dirty.add(0, file_size(file).value_or(0));
    content.doubt = Doubt::kUnverified;
    list(file.shared_from_this());
  } else if (*stored) {
    content.known = std::move(**stored);
  } else if (unread == Unread::kNothingThere) {
    const ContentKind kind = detect_kind(file);
    content.known.block_size = kind.block_size;
    content.known.database = kind.database;
    content.known.scanned = false;
    content.known.size = file_size(file).value_or(0);
    content.known.hashes.assign(content.known.block_count(), kUnknownHash);
    // The catalog must know that the rest is yet to be read when the log tells it of some blocks:
    // else it takes the others for zeros, and nobody reads them.
    const Status put = catalog_.put_scanned(file.id, content.known, 0, {});
    if (!put.ok()) spdlog::error("{}: {}", path_of(file), put.error().message);
  }
  for (const uint64_t hash : content.known.hashes) {
    if (hash == kUnknownHash) {
      ++content.unknown;
    } else {
      content.checksum += hash;
    }
  }
  if (unread == Unread::kPerhapsChanged && stored.ok()) {
    content.doubt = Doubt::kUnverified;
    content.comparing = true;
    content.size_dirty = true;
    content.dirty.add(0, std::max(content.known.size, file_size(file).value_or(0)));
    list(file.shared_from_this());
  }
  return content;
}

void Tracker::forget_unread(FileId id) {
  const std::scoped_lock lock(names_mutex_);
  unread_.erase(id);
}

void Tracker::list(const std::shared_ptr<FileState>& file) {
  if (file->listed) return;
  file->listed = true;
  const std::scoped_lock lock(list_mutex_);
  listed_.push_back(file);
}

void Tracker::note_change(const std::shared_ptr<FileState>& file, uint64_t begin, uint64_t end) {
  Content& content = ensure_content(*file);
  const int64_t now = steady_ns();
  if (content.dirty.empty() && !content.size_dirty) content.dirty_since_ns = now;
  content.dirty.add(begin, end);
  content.size_dirty = true;
  content.dirty_is_new = true;
  content.synced = false;
  content.boundary = false;
  content.last_write_ns = now;
  content.quiet_cuts = 0;
  list(file);
}

// Before a log's bytes are overwritten: what was committed there must be known (I3).
void Tracker::before_write(TrackedFile* handle, uint64_t offset, ByteView data) {
  if (handle == nullptr) return;
  std::shared_ptr<FileState> base;
  {
    FileState& file = *handle->state;
    const std::scoped_lock lock(file.mutex);
    if (file.role == Role::kContent) ensure_content(file);
    if (file.role != Role::kWal) return;
    base = file.base;
  }
  const std::scoped_lock lock(base->mutex);
  const auto& wal = ensure_content(*base).wal;
  if (wal == nullptr) return;
  const ReadAt read = [&](uint64_t at, std::span<uint8_t> into) {
    return read_file(*wal, at, into);
  };
  if (wal_write_destroys(read, offset, data)) capture_wal(*base, spool_, next_order());
  if (offset == 0) expect_wal_header(*base, data);
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
  if (role == Role::kWal) {
    const std::scoped_lock lock(base->mutex);
    Content& content = ensure_content(*base);
    content.wal_written_from = std::min(content.wal_written_from, offset);
    content.wal_unread += size;
    content.quiet_cuts = 0;
    list(base);
  } else if (role == Role::kJournal && offset < kJournalHeaderSize) {
    note_journal_write(file);
  }
}

void Tracker::before_range_change(TrackedFile* handle, uint64_t, uint64_t) {
  if (handle == nullptr) return;
  Role role;
  {
    FileState& file = *handle->state;
    const std::scoped_lock lock(file.mutex);
    role = file.role;
    if (role == Role::kContent) ensure_content(file);
  }
  if (role == Role::kWal) look_before(*handle->state);
}

void Tracker::range_changed(TrackedFile* handle, uint64_t offset, uint64_t size) {
  if (handle == nullptr) return;
  // Not beyond the file: an unlimited range would list blocks that are not there.
  const uint64_t end = file_size(*handle->state).value_or(0);
  wrote(handle, offset, offset >= end ? 0 : std::min(size, end - offset));
}

void Tracker::before_truncate(TrackedFile* handle, uint64_t) {
  before_range_change(handle, 0, 0);
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
  const std::scoped_lock lock(file.mutex);
  if (file.content == nullptr) return;
  file.content->synced = true;
  file.content->synced_in_generation = true;
  file.content->boundary = true;
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
    got = read_file(*journal, 0, first);
    size = file_size(*journal).value_or(0);
  }
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
  content.journal_open = false;
  content.journal_nonce.reset();
  content.hot_journal_ended = content.hot_journal != nullptr;
  if (content.dirty.empty() && !content.size_dirty) return forget_hot_journal(content, 0);
  list(database);
  if (!content.synced) {
    content.doubt = Doubt::kUnsynced;
    content.quiet_cuts = 0;
    return;
  }
  // A file that is still being compared as a whole must not hold up the application here.
  constexpr uint64_t kInlineMax = uint64_t{64} << 20;
  if (content.doubt == Doubt::kUnverified && content.dirty.total_bytes() > kInlineMax) return;
  const uint64_t order = next_order();
  if (auto commit = capture_dirty(*database, spool_)) {
    commit->order = order;
    content.commits.push_back(std::move(*commit));
  }
  forget_hot_journal(content, order);
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
    commit->order = next_order();
    content.commits.push_back(std::move(*commit));
    list(file);
  }
}

std::vector<std::shared_ptr<FileState>> Tracker::take_listed() {
  const std::scoped_lock lock(list_mutex_);
  return std::exchange(listed_, {});
}

std::shared_ptr<FileState> Tracker::find(FileId id) {
  const std::scoped_lock lock(names_mutex_);
  const auto found = by_id_.find(id);
  return found != by_id_.end() ? found->second : nullptr;
}

std::pair<std::shared_ptr<FileState>, std::string> Tracker::place_of(const FileState& file) {
  const std::scoped_lock lock(names_mutex_);
  return {file.parent, file.name};
}

std::string Tracker::path_of(const FileState& file) {
  const std::scoped_lock lock(names_mutex_);
  std::string text = file.name;
  for (const FileState* directory = file.parent.get();
       directory != nullptr && !directory->name.empty(); directory = directory->parent.get()) {
    text.insert(0, directory->name + "/");
  }
  return text;
}

std::vector<std::shared_ptr<FileState>> Tracker::all_states() {
  const std::scoped_lock lock(names_mutex_);
  std::vector<std::shared_ptr<FileState>> files;
  files.reserve(states_.size());
  for (const auto& [inode, file] : states_) files.push_back(file);
  return files;
}

void Tracker::prune(const std::shared_ptr<FileState>& file) {
  const std::scoped_lock lock(file->mutex, names_mutex_);
  if (file->path_fd >= 0 || file->listed || file == root_) return;
  if (file->content != nullptr &&
      (file->content->wal != nullptr || file->content->journal != nullptr))
    return;
  if (file->role == Role::kWal || file->role == Role::kJournal) return;
  const auto found = states_.find(file->inode);
  if (found != states_.end() && found->second == file) states_.erase(found);
  by_id_.erase(file->id);
}

}  // namespace walfs
