// Names and attributes: each change goes into the volume's order at the moment it is made.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

#include "fs/capture/sqlite_header.h"
#include "fs/tracking/attributes.h"
#include "fs/tracking/tracker.h"

namespace walfs {
namespace {

bool has_name(Role role) {
  return role == Role::kContent || role == Role::kNameOnly;
}

Role role_of(FileState& file) {
  const std::scoped_lock lock(file.mutex);
  return file.role;
}

// Of a removed companion nothing is read any more, and its room on the disk is wanted.
void let_go(FileState& file) {
  const std::scoped_lock lock(file.mutex);
  file.own_fd.reset();
}

}  // namespace

void Tracker::record(NameEvent event, uint64_t order) {
  if (event.changes.empty()) return;
  const std::scoped_lock lock(names_mutex_);
  if (order == 0) order = next_order();
  for (const auto& file : event.appeared) file->created_order = order;
  for (const auto& file : event.gone) file->gone_order = order;
  const auto place =
      std::upper_bound(names_.begin(), names_.end(), order,
                       [](uint64_t at, const auto& name) { return at < name.first; });
  std::vector<std::pair<uint64_t, Change>> changes;
  for (Change& change : event.changes) changes.emplace_back(order, std::move(change));
  names_.insert(place, std::make_move_iterator(changes.begin()),
                std::make_move_iterator(changes.end()));
}

std::vector<Change> Tracker::take_names(uint64_t up_to_order) {
  const std::scoped_lock lock(names_mutex_);
  auto end = names_.begin();
  while (end != names_.end() && end->first <= up_to_order) ++end;
  std::vector<Change> taken;
  taken.reserve(static_cast<size_t>(end - names_.begin()));
  for (auto it = names_.begin(); it != end; ++it) taken.push_back(std::move(it->second));
  names_.erase(names_.begin(), end);
  return taken;
}

void Tracker::note_inode(FileId id, uint64_t inode) {
  const std::scoped_lock lock(names_mutex_);
  inodes_.emplace_back(id, inode);
}

Inodes Tracker::take_inodes() {
  const std::scoped_lock lock(names_mutex_);
  return std::exchange(inodes_, {});
}

void Tracker::set_id(uint64_t inode, FileId id) {
  const std::scoped_lock lock(names_mutex_);
  ids_[inode] = id;
}

std::optional<FileId> Tracker::id_of(uint64_t inode) {
  const std::scoped_lock lock(names_mutex_);
  const auto found = ids_.find(inode);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

void Tracker::add_file(const std::shared_ptr<FileState>& file, NameEvent& event) {
  const int fd = file->path_fd >= 0 ? file->path_fd : file->own_fd.get();
  if (auto attributes = read_attributes(fd))
    event.changes.emplace_back(SetFile{file->id, std::move(*attributes)});
  event.appeared.push_back(file);
  {
    // Its inode number may have been another file's, of which the catalog knows.
    const std::scoped_lock lock(file->mutex);
    note_unsynced(*file);
    list(file);
  }
  const std::scoped_lock lock(names_mutex_);
  ids_[file->inode] = file->id;
  inodes_.emplace_back(file->id, file->inode);
}

// What a small file held that goes between an instant and its cut is in that point. Of a large one
// its room on the disk must not wait for us: perhaps it was removed to make room.
bool Tracker::hold(const std::shared_ptr<FileState>& file) {
  constexpr uint64_t kHeldBytesMax = uint64_t{1} << 20;
  constexpr size_t kHeldMax = 256;
  const Content* content = file->content.get();
  if (content == nullptr || content->known.database) return false;
  if (content->dirty.empty() && !content->size_dirty) return false;
  if (file_size(*file).value_or(kHeldBytesMax) >= kHeldBytesMax || !open_own(*file)) return false;
  const std::scoped_lock lock(names_mutex_);
  if (held_.size() >= kHeldMax) return false;
  held_.push_back(file);
  return true;
}

void Tracker::let_go_of_removed(uint64_t cut_order) {
  std::vector<std::shared_ptr<FileState>> done;
  {
    const std::scoped_lock lock(names_mutex_);
    std::erase_if(held_, [&](const std::shared_ptr<FileState>& file) {
      // 0: its removal has no place in the order yet.
      const bool past = file->gone_order != 0 && file->gone_order <= cut_order;
      if (past) done.push_back(file);
      return past;
    });
  }
  for (const auto& file : done) {
    const std::scoped_lock lock(file->mutex);
    if (file->role == Role::kGone) file->own_fd.reset();
  }
}

// The file is gone from the replica once its last name is; the application may still have it open.
void Tracker::drop_if_unlinked(const std::shared_ptr<FileState>& file, NameEvent& event) {
  {
    const std::scoped_lock lock(file->mutex);
    struct stat attributes {};
    const int fd = file->path_fd >= 0 ? file->path_fd : file->own_fd.get();
    const bool known = fd >= 0 && ::fstat(fd, &attributes) == 0;
    if (known && attributes.st_nlink > 0 && !S_ISDIR(attributes.st_mode)) return;
    file->role = Role::kGone;
    if (!hold(file)) file->own_fd.reset();
  }
  event.changes.emplace_back(DropFile{file->id});
  event.gone.push_back(file);
  const std::scoped_lock lock(names_mutex_);
  unread_.erase(file->id);
  const auto id = ids_.find(file->inode);
  if (id != ids_.end() && id->second == file->id) ids_.erase(id);
}

void Tracker::created(TrackedFile* parent, const char* name, TrackedFile* file) {
  if (parent == nullptr || file == nullptr) return;
  const std::shared_lock places(places_mutex_);
  if (!has_name(role_of(*file->state))) return;
  NameEvent event;
  add_file(file->state, event);
  event.changes.emplace_back(SetEntry{parent->state->id, name, file->state->id});
  record(std::move(event));
}

void Tracker::linked(TrackedFile* parent, const char* name, TrackedFile* file) {
  if (parent == nullptr || file == nullptr) return;
  const std::shared_lock places(places_mutex_);
  NameEvent event;
  place(parent->state, name, file->state, event);
  record(std::move(event));
}

void Tracker::before_unlink(TrackedFile*, const char*, TrackedFile* file) {
  if (file != nullptr && role_of(*file->state) == Role::kWal) look_before(*file->state);
}

void Tracker::unlinked(TrackedFile* parent, const char* name, TrackedFile* file) {
  if (parent == nullptr) return;
  const std::shared_lock places(places_mutex_);
  if (file != nullptr && !has_name(role_of(*file->state))) {
    companion_gone(file->state, name);
    let_go(*file->state);
    return;
  }
  NameEvent event;
  event.changes.emplace_back(SetEntry{parent->state->id, name, kNoFile});
  if (file != nullptr) {
    drop_if_unlinked(file->state, event);
    if (file->state->is_regular) {
      const bool lives = role_of(*file->state) != Role::kGone;
      release_companions(parent->state, name, lives, event);
    }
  }
  record(std::move(event));
}

void Tracker::companion_gone(const std::shared_ptr<FileState>& file, const char* name) {
  std::shared_ptr<FileState> base;
  Role role;
  {
    const std::scoped_lock lock(file->mutex);
    role = file->role;
    base = std::move(file->base);
    file->base.reset();
    file->role = Role::kGone;
    const std::scoped_lock names(names_mutex_);
    file->gone_order = order_ + 1;  // Any value: it has no place in the log.
    unread_.erase(file->id);        // A journal that went up with its database.
  }
  if (role == Role::kSuperJournal) {
    end_super_journal(name);
    return;
  }
  if (base == nullptr) return;
  if (role == Role::kJournal && role_of(*base) != Role::kGone) end_transaction(base);
  const std::scoped_lock lock(base->mutex);
  if (base->content == nullptr) return;
  if (role == Role::kJournal && base->content->journal == file) base->content->journal.reset();
  if (role == Role::kWal && base->content->wal == file) {
    end_wal(*base);
    list(base);
  }
  if (role != Role::kShm) return;
  base->content->has_shm = false;
  if (on_shm_) on_shm_(*base, false);
}

void Tracker::before_rename(TrackedFile*, const char*, TrackedFile*, const char*, TrackedFile* file,
                            TrackedFile* replaced, unsigned) {
  if (file != nullptr) {
    if (role_of(*file->state) == Role::kWal) look_before(*file->state);
    capture_now(file->state);
  }
  if (replaced != nullptr && role_of(*replaced->state) == Role::kWal) look_before(*replaced->state);
}

// Gives a file a name, and the role that goes with the name.
void Tracker::place(const std::shared_ptr<FileState>& parent, const char* name,
                    const std::shared_ptr<FileState>& file, NameEvent& event) {
  const Role before = role_of(*file);
  if (file->is_regular) {
    if (!has_name(before) && before != Role::kGone) companion_gone(file, name);
    decide_role(file, parent, name);
  }
  {
    const std::scoped_lock lock(names_mutex_);
    file->parent = parent;
    file->name = name;
    file->gone_order = 0;
  }
  const Role now = role_of(*file);
  if (!has_name(now)) {
    if (has_name(before)) event.changes.emplace_back(DropFile{file->id});
    return;
  }
  if (!has_name(before)) {
    // Not in the replica so far: all of it is new.
    add_file(file, event);
    const std::scoped_lock lock(file->mutex);
    file->content = std::make_unique<Content>();
    file->content->known.scanned = true;
    note_change(file, 0, file_size(*file).value_or(0));
    file->content->boundary = true;
  }
  event.changes.emplace_back(SetEntry{parent->id, name, file->id});
  if (file->is_regular) adopt_companions(file, event);
}

void Tracker::renamed(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                      const char* new_name, TrackedFile* file, TrackedFile* replaced,
                      unsigned flags) {
  if (parent == nullptr || new_parent == nullptr || file == nullptr) return;
  // Two names of one file: rename(2) then does nothing.
  if (replaced != nullptr && replaced->state == file->state) return;
  const std::shared_lock places(places_mutex_);
  NameEvent event;
  const bool had_name = has_name(role_of(*file->state));
  if ((flags & RENAME_EXCHANGE) != 0) {
    place(new_parent->state, new_name, file->state, event);
    if (replaced != nullptr) place(parent->state, name, replaced->state, event);
    record(std::move(event));
    return;
  }
  if (had_name) event.changes.emplace_back(SetEntry{parent->state->id, name, kNoFile});
  if (replaced != nullptr) {
    if (has_name(role_of(*replaced->state))) {
      event.changes.emplace_back(SetEntry{new_parent->state->id, new_name, kNoFile});
      drop_if_unlinked(replaced->state, event);
    } else {
      companion_gone(replaced->state, new_name);
      let_go(*replaced->state);
    }
  }
  place(new_parent->state, new_name, file->state, event);
  if (file->state->is_regular) release_companions(parent->state, name, true, event);
  record(std::move(event));
}

void Tracker::attributes_changed(TrackedFile* file) {
  if (file == nullptr || !has_name(role_of(*file->state))) return;
  NameEvent event;
  // In the order in which they were read.
  const std::scoped_lock lock(file->state->mutex);
  if (auto attributes = read_attributes(file->state->path_fd)) {
    event.changes.emplace_back(SetFile{file->state->id, std::move(*attributes)});
  }
  record(std::move(event));
}

}  // namespace walfs
