#include "fs/tracking/tree_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <unordered_map>

#include "fs/capture/journal.h"
#include "fs/capture/sqlite_header.h"
#include "fs/tracking/attributes.h"
#include "replicator/time.h"

namespace walfs {
namespace {

constexpr const char* kStateName = ".walfs";

Signature signature_of(const struct stat& attributes) {
  return {static_cast<uint64_t>(attributes.st_size),
          attributes.st_mtim.tv_sec * kNsPerSecond + attributes.st_mtim.tv_nsec,
          attributes.st_ctim.tv_sec * kNsPerSecond + attributes.st_ctim.tv_nsec};
}

struct Found {
  std::string name;
  std::string path;
  struct stat attributes {};
  bool companion = false;
  bool hot_journal = false;
  uint64_t database_inode = 0;  // Of a companion.
};

Result<std::vector<std::string>> list_names(int directory) {
  const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = copy >= 0 ? ::fdopendir(copy) : nullptr;
  if (stream == nullptr) {
    if (copy >= 0) ::close(copy);
    return error_from_errno("cannot list a directory", errno);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  const int error = errno;
  ::closedir(stream);
  if (error != 0) return error_from_errno("cannot list a directory", error);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_database_or_empty(int directory, const std::string& name) {
  const FileDescriptor file(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat attributes {};
  if (!file.valid() || ::fstat(file.get(), &attributes) != 0 || !S_ISREG(attributes.st_mode))
    return false;
  if (attributes.st_size == 0) return true;
  std::array<uint8_t, kDatabaseHeaderSize> first{};
  const ssize_t size = ::pread(file.get(), first.data(), first.size(), 0);
  return size > 0 &&
         parse_database_header(ByteView(first).first(static_cast<size_t>(size))).has_value();
}

bool is_live_journal(int directory, const std::string& name) {
  const FileDescriptor file(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat attributes {};
  if (!file.valid() || ::fstat(file.get(), &attributes) != 0) return false;
  std::array<uint8_t, kJournalHeaderSize> first{};
  const ssize_t size = ::pread(file.get(), first.data(), first.size(), 0);
  return size > 0 && journal_is_live(ByteView(first).first(static_cast<size_t>(size)),
                                     static_cast<uint64_t>(attributes.st_size));
}

// Calls visit(parent inode, found, O_PATH descriptor) for everything beneath, directories before
// what is in them.
class Walk {
 public:
  using Visit = std::function<Status(uint64_t parent, const Found& found, int path_fd)>;
  explicit Walk(Visit visit) : visit_(std::move(visit)) {}

  Status run(int root) {
    struct stat attributes {};
    if (::fstat(root, &attributes) != 0)
      return error_from_errno("cannot look at the source", errno);
    device_ = attributes.st_dev;
    return directory(root, attributes.st_ino, "");
  }

 private:
  Status directory(int fd, uint64_t inode, const std::string& prefix) {
    const auto names = list_names(fd);
    if (!names.ok() && names.error().code == Errc::kNothingThere) return {};  // It was removed.
    if (!names.ok()) return Error{names.error().code, prefix + ": " + names.error().message};
    for (const std::string& name : *names) {
      if (prefix.empty() && name == kStateName) continue;
      Found found;
      found.name = name;
      found.path = prefix + name;
      const FileDescriptor file(::openat(fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      if (!file.valid() && errno == ENOENT) continue;
      // What cannot be looked at is not gone.
      if (!file.valid() || ::fstat(file.get(), &found.attributes) != 0)
        return error_from_errno("cannot open " + found.path, errno);
      if (found.attributes.st_dev != device_) continue;
      const CompanionName companion = parse_companion_name(name);
      found.companion = S_ISREG(found.attributes.st_mode) &&
                        companion.kind != CompanionKind::kNone &&
                        is_database_or_empty(fd, std::string(companion.database));
      found.hot_journal =
          found.companion && companion.kind == CompanionKind::kJournal && is_live_journal(fd, name);
      struct stat database {};
      if (found.companion &&
          ::fstatat(fd, std::string(companion.database).c_str(), &database, 0) == 0)
        found.database_inode = database.st_ino;
      WALFS_TRY(visit_(inode, found, file.get()));
      if (!S_ISDIR(found.attributes.st_mode)) continue;
      const FileDescriptor below(
          ::openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!below.valid() && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) continue;
      if (!below.valid()) return error_from_errno("cannot open " + found.path, errno);
      WALFS_TRY(directory(below.get(), found.attributes.st_ino, found.path + "/"));
    }
    return {};
  }

  Visit visit_;
  dev_t device_ = 0;
};

class Comparison {
 public:
  Comparison(Tracker& tracker, Catalog& catalog, bool fresh, Trust trust)
      : tracker_(tracker), catalog_(catalog), fresh_(fresh), trust_(trust) {}

  Status load() {
    WALFS_TRY(catalog_.for_each_file([&](const Catalog::FileRow& row) {
      rows_.emplace(row.id, row);
      if (row.inode != 0) by_inode_.emplace(row.inode, row.id);
    }));
    return catalog_.for_each_entry([&](const SetEntry& entry) {
      entries_[{entry.parent, entry.name}] = entry.child;
    });
  }

  Status root(int fd) {
    struct stat attributes {};
    if (::fstat(fd, &attributes) != 0) return error_from_errno("cannot look at the source", errno);
    ids_[attributes.st_ino] = kRootId;
    return note_attributes(kRootId, attributes.st_ino, fd);
  }

  Status visit(uint64_t parent, const Found& found, int path_fd) {
    if (found.companion) {
      if (found.attributes.st_size > 0) {
        companions_.push_back(found.path);
        note_in_use(found.database_inode);
      }
      // A database that the replica does not have yet goes up as it is, in the middle of a
      // transaction, and its journal with it, until that has ended.
      if (!found.hot_journal) return {};
      if (replica_has_database(found.database_inode) &&
          !by_inode_.contains(found.attributes.st_ino))
        return {};
      hot_journals_.push_back(found.path);
    }
    const FileId id = id_of(found);
    ++scan_.files;
    const FileId parent_id = ids_.at(parent);
    if (seen_.insert(id).second) {
      WALFS_TRY(note_attributes(id, found.attributes.st_ino, path_fd));
      if (S_ISREG(found.attributes.st_mode)) note_content(id, found);
    }
    const auto entry = entries_.find({parent_id, found.name});
    if (entry != entries_.end() && entry->second == id) {
      entries_.erase(entry);
      return {};
    }
    if (entry != entries_.end()) entries_.erase(entry);
    if (fresh_) return catalog_.put_entry(parent_id, found.name, id);
    event_.changes.emplace_back(SetEntry{parent_id, found.name, id});
    return {};
  }

  // What the catalog has and the directory has not is gone.
  void finish() {
    for (const auto& [place, child] : entries_) {
      event_.changes.emplace_back(SetEntry{place.first, place.second, kNoFile});
    }
    for (const auto& [id, row] : rows_) {
      if (id != kRootId && !seen_.contains(id)) event_.changes.emplace_back(DropFile{id});
    }
  }

  NameEvent take_event() { return std::move(event_); }
  TreeScan take_scan() { return std::move(scan_); }
  const std::vector<std::string>& companions() const { return companions_; }
  const std::vector<std::string>& hot_journals() const { return hot_journals_; }

 private:
  // The database was visited before its journal, whose name is longer.
  bool replica_has_database(uint64_t inode) {
    const auto id = ids_.find(inode);
    if (fresh_ || id == ids_.end()) return false;
    const auto content = catalog_.content(id->second);
    return content.ok() && *content && (*content)->database;
  }

  FileId id_of(const Found& found) {
    const auto known = ids_.find(found.attributes.st_ino);
    if (known != ids_.end()) return known->second;
    FileId id = kNoFile;
    const auto row = by_inode_.find(found.attributes.st_ino);
    // An inode number may have been given to another file since; a file of another type it
    // certainly is.
    if (row != by_inode_.end() && type_matches(rows_.at(row->second), found.attributes)) {
      id = row->second;
    } else {
      id = tracker_.new_id();
    }
    ids_.emplace(found.attributes.st_ino, id);
    tracker_.set_id(found.attributes.st_ino, id);
    return id;
  }

  static bool type_matches(const Catalog::FileRow& row, const struct stat& attributes) {
    return (row.attributes.type == FileType::kRegular) ==
               static_cast<bool>(S_ISREG(attributes.st_mode)) &&
           (row.attributes.type == FileType::kDirectory) ==
               static_cast<bool>(S_ISDIR(attributes.st_mode));
  }

  Status note_attributes(FileId id, uint64_t inode, int fd) {
    auto attributes = read_attributes(fd);
    if (!attributes) return {};
    const auto row = rows_.find(id);
    if (row != rows_.end() && row->second.attributes == *attributes) return {};
    if (fresh_) {
      WALFS_TRY(catalog_.put_file(id, *attributes));
      return catalog_.set_inode(id, inode);
    }
    event_.changes.emplace_back(SetFile{id, std::move(*attributes)});
    tracker_.note_inode(id, inode);
    return {};
  }

  void note_content(FileId id, const Found& found) {
    UnreadFile file{id, found.path, static_cast<uint64_t>(found.attributes.st_size)};
    if (is_trusted(id, found.attributes)) {
      if (trust_ == Trust::kUntouched) trusted_.emplace(found.attributes.st_ino, std::move(file));
    } else {
      note_unread(std::move(file));
    }
    if (found.attributes.st_nlink > 1) tracker_.set_link(found.attributes.st_ino, found.path);
  }

  bool is_trusted(FileId id, const struct stat& attributes) const {
    const auto row = rows_.find(id);
    if (fresh_ || row == rows_.end() || row->second.torn) return false;
    if (trust_ == Trust::kSignatures) return row->second.signature == signature_of(attributes);
    return trust_ == Trust::kUntouched && !tracker_.was_touched(attributes.st_ino);
  }

  // How far the log of a database was captured is not known any more.
  void note_in_use(uint64_t database_inode) {
    const auto trusted = trusted_.find(database_inode);
    if (trusted == trusted_.end()) return;
    note_unread(std::move(trusted->second));
    trusted_.erase(trusted);
  }

  void note_unread(UnreadFile file) {
    tracker_.set_unread(file.id,
                        fresh_ ? Tracker::Unread::kNothingThere : Tracker::Unread::kPerhapsChanged);
    scan_.unread_bytes += file.size;
    scan_.unread.push_back(std::move(file));
  }

  Tracker& tracker_;
  Catalog& catalog_;
  const bool fresh_;
  const Trust trust_;
  std::unordered_map<FileId, Catalog::FileRow> rows_;
  std::unordered_map<uint64_t, FileId> by_inode_;
  std::unordered_map<uint64_t, FileId> ids_;
  std::map<std::pair<FileId, std::string>, FileId> entries_;  // Of the catalog, not seen yet.
  std::set<FileId> seen_;
  std::unordered_map<uint64_t, UnreadFile> trusted_;  // By inode.
  std::vector<std::string> companions_;
  std::vector<std::string> hot_journals_;
  NameEvent event_;
  TreeScan scan_;
};

}  // namespace

Result<TreeScan> scan_tree(int root_fd, Tracker& tracker, Catalog& catalog, bool fresh,
                           Trust trust) {
  Comparison comparison(tracker, catalog, fresh, trust);
  if (!fresh) WALFS_TRY(comparison.load());
  WALFS_TRY(comparison.root(root_fd));
  Walk walk([&](uint64_t parent, const Found& found, int fd) {
    return comparison.visit(parent, found, fd);
  });
  WALFS_TRY(walk.run(root_fd));
  if (!fresh) comparison.finish();
  tracker.record(comparison.take_event());
  for (const std::string& path : comparison.companions()) tracker.open_path(path);
  for (const std::string& path : comparison.hot_journals()) tracker.keep_hot_journal(path);
  return comparison.take_scan();
}

Status find_again(Tracker& tracker, std::vector<UnreadFile>& files) {
  std::unordered_map<FileId, UnreadFile*> wanted;
  for (UnreadFile& file : files) wanted.emplace(file.id, &file);
  Walk walk([&](uint64_t, const Found& found, int) -> Status {
    const auto id = tracker.id_of(found.attributes.st_ino);
    const auto file = id ? wanted.find(*id) : wanted.end();
    if (file != wanted.end()) file->second->path = found.path;
    return {};
  });
  return walk.run(tracker.root_fd());
}

Status save_signatures(int root_fd, Tracker& tracker, Catalog& catalog) {
  Walk walk([&](uint64_t, const Found& found, int) -> Status {
    if (found.companion || !S_ISREG(found.attributes.st_mode)) return {};
    const auto id = tracker.id_of(found.attributes.st_ino);
    if (!id) return {};
    return catalog.save_signature(
        *id, tracker.is_in_log(*id) ? signature_of(found.attributes) : Signature{});
  });
  return walk.run(root_fd);
}

}  // namespace walfs
