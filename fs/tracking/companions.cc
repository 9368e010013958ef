// Which files belong together: a database and its -wal, -shm, -journal and super-journal (found by
// name, after what the database is was found by content).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "fs/capture/journal.h"
#include "fs/capture/sqlite_header.h"
#include "fs/tracking/tracker.h"

namespace walfs {
namespace {

constexpr const char* kSuffixes[] = {"-wal", "-shm", "-journal"};

Role companion_role(CompanionKind kind) {
  switch (kind) {
    case CompanionKind::kWal:
      return Role::kWal;
    case CompanionKind::kShm:
      return Role::kShm;
    case CompanionKind::kJournal:
      return Role::kJournal;
    case CompanionKind::kSuperJournal:
      return Role::kSuperJournal;
    case CompanionKind::kNone:
      break;
  }
  return Role::kContent;
}

// A file that the kernel has forgotten has none any more. Not waited for: whoever holds the lock
// has one.
void give_descriptor(FileState& file, FileDescriptor fd) {
  const std::unique_lock lock(file.mutex, std::try_to_lock);
  if (lock && !has_descriptor(file)) file.own_fd = std::move(fd);
}

int directory_fd(const FileState& directory) {
  return directory.path_fd >= 0 ? directory.path_fd : directory.own_fd.get();
}

}  // namespace

std::shared_ptr<FileState> Tracker::open_state(const std::shared_ptr<FileState>& parent,
                                               const std::string& name) {
  const int directory = directory_fd(*parent);
  struct stat attributes {};
  if (directory < 0 || ::fstatat(directory, name.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) != 0)
    return nullptr;
  if (attributes.st_dev != device_) return nullptr;
  const bool openable = S_ISREG(attributes.st_mode) || S_ISDIR(attributes.st_mode);
  const int flags = openable ? O_RDONLY | O_NONBLOCK : O_PATH;
  FileDescriptor fd(::openat(directory, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() || ::fstat(fd.get(), &attributes) != 0) return nullptr;
  std::shared_ptr<FileState> file;
  {
    const std::scoped_lock lock(names_mutex_);
    const auto known = states_.find(attributes.st_ino);
    if (known != states_.end() && known->second->gone_order == 0) {
      if (openable) give_descriptor(*known->second, std::move(fd));
      return known->second;
    }
    file = std::make_shared<FileState>(
        ids_.contains(attributes.st_ino) ? ids_.at(attributes.st_ino) : new_id(),
        attributes.st_ino);
    file->is_regular = S_ISREG(attributes.st_mode);
    file->own_fd = std::move(fd);
    file->parent = parent;
    file->name = name;
    states_[attributes.st_ino] = file;
    by_id_[file->id] = file;
  }
  decide_role(file, parent, name.c_str());
  return file;
}

std::shared_ptr<FileState> Tracker::open_path(const std::string& path) {
  std::shared_ptr<FileState> file = root_;
  for (size_t begin = 0; file != nullptr && begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    file = open_state(file, path.substr(begin, end - begin));
    begin = end + 1;
  }
  return file;
}

// Decides by name and by the file that the name belongs to: an empty file or a database. The
// companion of anything else is an ordinary file.
void Tracker::decide_role(const std::shared_ptr<FileState>& file,
                          const std::shared_ptr<FileState>& parent, const char* name) {
  if (!file->is_regular) return;
  if (parent == nullptr) {
    // Made without a name (O_TMPFILE): it is nobody's yet.
    const std::scoped_lock lock(file->mutex);
    file->role = Role::kGone;
    return;
  }
  const CompanionName companion = name != nullptr ? parse_companion_name(name) : CompanionName{};
  std::shared_ptr<FileState> base;
  if (companion.kind != CompanionKind::kNone) {
    base = open_state(parent, std::string(companion.database));
    if (base != nullptr && base != file) {
      wait_for_role(*base);
      const std::scoped_lock lock(base->mutex);
      if (base->role != Role::kContent) {
        base.reset();
      } else {
        ensure_content(*base);
        if (file_size(*base).value_or(0) != 0 && !detect_kind(*base).database) base.reset();
      }
    }
  }
  {
    const std::scoped_lock lock(file->mutex);
    file->role = base != nullptr && base != file ? companion_role(companion.kind) : Role::kContent;
  }
  if (base != nullptr && base != file) bind_companion(file, base);
}

void Tracker::bind_companion(const std::shared_ptr<FileState>& file,
                             const std::shared_ptr<FileState>& base) {
  Role role;
  JournalState state = JournalState::kNone;
  {
    const std::scoped_lock lock(file->mutex);
    file->base = base;
    role = file->role;
    if (role == Role::kWal || role == Role::kJournal) open_own(*file);
    if (role == Role::kJournal) {
      std::array<uint8_t, kJournalHeaderSize> first{};
      const size_t size = read_file(*file, 0, first);
      const uint64_t whole = file_size(*file).value_or(0);
      state = journal_state(ByteView(first).first(size), whole);
    }
  }
  if (role == Role::kWal) {
    const std::scoped_lock lock(base->mutex);
    Content& content = ensure_content(*base);
    if (content.wal != file) {
      if (content.wal != nullptr) end_wal(*base);
      content.wal = file;
    }
    content.wal_written_from = 0;
    list(base);
  } else if (role == Role::kJournal) {
    {
      const std::scoped_lock lock(base->mutex);
      Content& content = ensure_content(*base);
      content.journal = file;
      // A journal that is found, and not seen to begin: what its transaction has written before is
      // not known.
      if (state == JournalState::kLive) {
        content.dirty.add(0, std::max(content.known.size, file_size(*base).value_or(0)));
        content.size_dirty = true;
        content.dirty_is_new = true;
        content.doubt = std::max(content.doubt, Doubt::kUnverified);
        list(base);
      }
    }
    // One that was only starting has changed nothing, and is perhaps left by an application that
    // died. If it goes on its header is written again first.
    if (state != JournalState::kStarting) note_journal_write(file);
  } else if (role == Role::kShm) {
    const std::scoped_lock lock(base->mutex);
    ensure_content(*base).has_shm = true;
    if (on_shm_) on_shm_(*base, true);
  }
}

// What already lies beside the new name of a file. A database may come after its companions, which
// were ordinary files until then.
void Tracker::adopt_companions(const std::shared_ptr<FileState>& file, NameEvent& event) {
  const auto [parent, name] = place_of(*file);
  if (parent == nullptr) return;
  bool is_database = false;
  {
    const std::scoped_lock lock(file->mutex);
    if (file->role != Role::kContent) return;
    ensure_content(*file);
    is_database = detect_kind(*file).database;
  }
  for (const char* suffix : kSuffixes) {
    const std::string companion_name = name + suffix;
    const auto companion = open_state(parent, companion_name);
    if (companion == nullptr || companion == file) continue;
    wait_for_role(*companion);
    Role role;
    {
      const std::scoped_lock lock(companion->mutex);
      role = companion->role;
    }
    if (role == Role::kWal || role == Role::kShm || role == Role::kJournal) {
      bind_companion(companion, file);
    } else if (role == Role::kContent && is_database) {
      event.changes.emplace_back(SetEntry{parent->id, companion_name, kNoFile});
      place(parent, companion_name.c_str(), companion, event);
    }
  }
}

// A database has left the name: what lies beside it is nobody's companion now, but an ordinary
// file. The log of a database that was only renamed still belongs to it, and so does the journal of
// its open transaction; mostly they follow it.
void Tracker::release_companions(const std::shared_ptr<FileState>& parent, const std::string& name,
                                 bool database_lives, NameEvent& event) {
  for (const char* suffix : kSuffixes) {
    const std::string companion_name = name + suffix;
    const auto companion = open_state(parent, companion_name);
    if (companion == nullptr) continue;
    Role role;
    std::shared_ptr<FileState> base;
    {
      const std::scoped_lock lock(companion->mutex);
      role = companion->role;
      base = companion->base;
    }
    bool in_use = false;
    if (database_lives && base != nullptr) {
      const std::scoped_lock lock(base->mutex);
      in_use = base->content != nullptr && base->content->journal_open;
    }
    if ((role == Role::kJournal && !in_use) ||
        (!database_lives && (role == Role::kWal || role == Role::kShm)))
      place(parent, companion_name.c_str(), companion, event);
  }
}

// Alone: a request that removes or replaces a companion meanwhile would find it without a place.
bool Tracker::reclassify_companions(const std::shared_ptr<FileState>& file, bool is_database) {
  const std::scoped_lock places(places_mutex_);
  const auto [parent, name] = place_of(*file);
  if (parent == nullptr) return false;
  bool changed = false;
  for (const char* suffix : kSuffixes) {
    const std::string companion_name = name + suffix;
    const auto companion = open_state(parent, companion_name);
    if (companion == nullptr || companion == file) continue;
    bool is_companion = false;
    {
      const std::scoped_lock lock(companion->mutex);
      if (companion->role == Role::kGone) continue;
      is_companion = companion->role != Role::kContent;
    }
    if (is_companion == is_database) continue;
    NameEvent event;
    if (is_database) event.changes.emplace_back(SetEntry{parent->id, companion_name, kNoFile});
    place(parent, companion_name.c_str(), companion, event);
    record(std::move(event));
    changed = true;
  }
  return changed;
}

void Tracker::keep_hot_journal(const std::string& path) {
  const auto journal = open_path(path);
  if (journal == nullptr) return;
  std::shared_ptr<FileState> base;
  {
    const std::scoped_lock lock(journal->mutex);
    if (journal->role != Role::kJournal) return;
    base = journal->base;
    journal->kept_hot = true;
  }
  const std::scoped_lock lock(base->mutex);
  ensure_content(*base).hot_journal = journal;
}

void Tracker::forget_hot_journal(Content& database, uint64_t order) {
  const auto journal = std::exchange(database.hot_journal, nullptr);
  if (journal == nullptr) return;
  journal->kept_hot = false;
  const auto [parent, name] = place_of(*journal);
  NameEvent event;
  event.changes.emplace_back(SetEntry{parent->id, name, kNoFile});
  event.changes.emplace_back(DropFile{journal->id});
  record(std::move(event), order);
}

}  // namespace walfs
