#include "fs/tracking/touched_observer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/capture/journal.h"
#include "fs/capture/sqlite_header.h"
#include "fs/tracking/commit_gate.h"
#include "fs/tracking/tracker.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace walfs {
namespace {

int descriptor_of(const FileState& directory) {
  return directory.path_fd >= 0 ? directory.path_fd : directory.own_fd.get();
}

bool holds_content(CompanionKind kind) {
  return kind == CompanionKind::kWal || kind == CompanionKind::kJournal;
}

std::optional<uint64_t> inode_at(const FileState& directory, const std::string& name) {
  struct stat attributes {};
  const int fd = descriptor_of(directory);
  if (fd < 0 || ::fstatat(fd, name.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) != 0)
    return std::nullopt;
  return attributes.st_ino;
}

std::optional<uint64_t> database_of(const FileState& companion) {
  const CompanionName name = parse_companion_name(companion.name);
  if (!holds_content(name.kind) || companion.parent == nullptr) return std::nullopt;
  return inode_at(*companion.parent, std::string(name.database));
}

}  // namespace

TrackedFile* TouchedObserver::attach(int path_fd, const struct stat& attributes,
                                     TrackedFile* parent, const char* name) {
  auto file = std::make_shared<FileState>(kNoFile, attributes.st_ino);
  file->path_fd = path_fd;
  if (parent != nullptr) file->parent = parent->state;
  if (name != nullptr) file->name = name;
  return new TrackedFile(std::move(file));
}

// A companion needs its directory, which the kernel may have named to us under another node, or not
// yet.
TrackedFile* TouchedObserver::attach_again(int path_fd, const struct stat& attributes,
                                           const std::string& path, unsigned) {
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  TrackedFile* const file = attach(path_fd, attributes, nullptr, name.c_str());
  if (!holds_content(parse_companion_name(name).kind)) return file;
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash);
  FileDescriptor fd(::openat(root_fd_, directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return file;
  file->state->parent = std::make_shared<FileState>(kNoFile, 0);
  file->state->parent->own_fd = std::move(fd);
  return file;
}

void TouchedObserver::detach(TrackedFile* file) {
  if (file == nullptr) return;
  {
    const std::scoped_lock lock(mutex_);
    file->state->path_fd = -1;
  }
  delete file;
}

void TouchedObserver::mark(const FileState& file) {
  const std::scoped_lock lock(mutex_);
  touched_.add(file.inode);
  mark_database_of(file.parent.get(), file.name);
}

// Whatever stands at the name, and the database whose companion it would be. The lock is not held.
void TouchedObserver::mark_name(const FileState& parent, const std::string& name) {
  const std::scoped_lock lock(mutex_);
  mark_inode_at(parent, name);
  mark_database_of(&parent, name);
}

void TouchedObserver::mark_database_of(const FileState* parent, const std::string& name) {
  const CompanionName companion = parse_companion_name(name);
  if (!holds_content(companion.kind)) return;
  if (parent == nullptr) return touched_.set_everything(true);
  mark_inode_at(*parent, std::string(companion.database));
}

void TouchedObserver::mark_inode_at(const FileState& parent, const std::string& name) {
  if (descriptor_of(parent) < 0) return touched_.set_everything(true);
  if (const auto inode = inode_at(parent, name)) touched_.add(*inode);
}

// Which of them commits is not known here: all that may wait.
void TouchedObserver::note_possible_commit(TrackedFile* file, bool of_journal) {
  if (!commits_wait_) return;
  const std::scoped_lock lock(mutex_);
  const CompanionKind kind = parse_companion_name(file->state->name).kind;
  if (kind == CompanionKind::kWal || (of_journal && kind == CompanionKind::kJournal))
    note_committed_by_this_thread();
}

// A new log, or the next transaction: whether its user syncs is to be seen anew.
void TouchedObserver::note_transaction(const FileState& companion) {
  const std::scoped_lock lock(mutex_);
  if (const auto inode = database_of(companion)) touched_.note_unsynced(*inode);
}

void TouchedObserver::before_write(TrackedFile* file, uint64_t offset, ByteView) {
  if (file == nullptr) return;
  mark(*file->state);
  if (offset == 0) note_transaction(*file->state);
}

void TouchedObserver::synced(TrackedFile* file) {
  if (file == nullptr) return;
  const std::scoped_lock lock(mutex_);
  const CompanionKind kind = parse_companion_name(file->state->name).kind;
  if (kind == CompanionKind::kNone) return touched_.note_synced(file->state->inode);
  if (kind != CompanionKind::kWal) return;
  if (const auto inode = database_of(*file->state)) touched_.note_synced(*inode);
}

void TouchedObserver::wrote(TrackedFile* file, uint64_t offset, uint64_t) {
  if (file != nullptr) note_possible_commit(file, offset < kJournalHeaderSize);
}

void TouchedObserver::before_range_change(TrackedFile* file, uint64_t, uint64_t) {
  if (file != nullptr) mark(*file->state);
}

void TouchedObserver::before_truncate(TrackedFile* file, uint64_t) {
  if (file != nullptr) mark(*file->state);
}

void TouchedObserver::truncated(TrackedFile* file, uint64_t) {
  if (file != nullptr) note_possible_commit(file, true);
}

// The inode's number may have been that of a file which the replica has.
void TouchedObserver::created(TrackedFile*, const char*, TrackedFile* file) {
  if (file != nullptr) mark(*file->state);
}

void TouchedObserver::linked(TrackedFile* parent, const char* name, TrackedFile* file) {
  if (parent == nullptr || file == nullptr) return;
  {
    const std::scoped_lock lock(mutex_);
    file->state->parent = parent->state;
    file->state->name = name;
  }
  mark(*file->state);
}

void TouchedObserver::before_unlink(TrackedFile* parent, const char* name, TrackedFile*) {
  if (parent != nullptr) mark_name(*parent->state, name);
}

// A journal that goes ends its transaction, and a super-journal those of several databases.
void TouchedObserver::unlinked(TrackedFile*, const char* name, TrackedFile*) {
  const CompanionKind kind = parse_companion_name(name).kind;
  if (commits_wait_ && (kind == CompanionKind::kJournal || kind == CompanionKind::kSuperJournal))
    note_committed_by_this_thread();
}

void TouchedObserver::before_rename(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                                    const char* new_name, TrackedFile*, TrackedFile*, unsigned) {
  if (parent != nullptr) mark_name(*parent->state, name);
  if (new_parent != nullptr) mark_name(*new_parent->state, new_name);
}

void TouchedObserver::renamed(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                              const char* new_name, TrackedFile* file, TrackedFile* replaced,
                              unsigned flags) {
  const std::scoped_lock lock(mutex_);
  if (file != nullptr && new_parent != nullptr) {
    file->state->parent = new_parent->state;
    file->state->name = new_name;
  }
  if (replaced != nullptr && parent != nullptr && (flags & RENAME_EXCHANGE) != 0) {
    replaced->state->parent = parent->state;
    replaced->state->name = name;
  }
}

}  // namespace walfs
