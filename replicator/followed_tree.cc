#include "replicator/followed_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/file_io.h"
#include "replicator/restore_attributes.h"

namespace walfs {
namespace {

constexpr const char* kFollowed = "a file that follows";

Result<uint64_t> hash_at(int fd, uint64_t index, uint32_t block_size, uint64_t file_size) {
  const uint64_t size = stored_block_size(index, block_size, file_size);
  WALFS_ASSIGN(const Bytes content, read_at(fd, index * block_size, size, kFollowed));
  return block_hash(index, content, block_size);
}

// The blocks whose hashes a change may change, of a file of `old_size` bytes.
std::set<uint64_t> affected_blocks(const SetContent& change, uint64_t old_size) {
  std::set<uint64_t> affected;
  for (const BlockChange& block : change.blocks) affected.insert(block.index);
  const uint64_t old_count = count_blocks(old_size, change.block_size);
  const uint64_t count = count_blocks(change.size, change.block_size);
  for (uint64_t index = count == 0 ? 0 : count - 1; index < old_count; ++index)
    affected.insert(index);
  return affected;
}

}  // namespace

Result<FollowedTree> FollowedTree::open(const std::string& directory, const std::string& aside,
                                        RestorePlan plan) {
  FollowedTree tree;
  tree.root_ = FileDescriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!tree.root_.valid()) return error_from_errno("cannot open " + directory, errno);
  tree.aside_ =
      FileDescriptor(::open(aside.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!tree.aside_.valid()) return error_from_errno("cannot open " + aside, errno);
  WALFS_ASSIGN(const std::vector<PlannedPath> paths, plan_paths(plan));
  std::set<FileId> reached;
  for (const PlannedPath& path : paths) reached.insert(path.id);
  for (auto& [id, planned] : plan.files) {
    planned.extents = {};
    planned.blocks = {};
    tree.files_[id].planned = std::move(planned);
  }
  for (const auto& [parent, names] : plan.entries) {
    if (!reached.contains(parent)) continue;
    for (const auto& [name, child] : names)
      if (const auto file = tree.files_.find(child); file != tree.files_.end())
        file->second.names.insert({parent, name});
  }
  for (auto& [id, file] : tree.files_) file.missing = id != kRootId && file.names.empty();
  tree.entries_ = std::move(plan.entries);
  return tree;
}

bool FollowedTree::on_disk(FileId id) const {
  if (id == kRootId) return true;
  const auto file = files_.find(id);
  return file != files_.end() && (file->second.aside || !file->second.names.empty());
}

Status FollowedTree::check_place(const std::string& directory) const {
  struct stat named {};
  struct stat opened {};
  if (::stat(directory.c_str(), &named) == 0 && ::fstat(root_.get(), &opened) == 0 &&
      named.st_dev == opened.st_dev && named.st_ino == opened.st_ino)
    return {};
  return Error{Errc::kIo, directory +
                              " is not the directory any more that was restored: it was "
                              "moved, replaced or mounted over"};
}

Result<FollowedTree::At> FollowedTree::at(const Place& place) {
  const auto [parent, name] = split_path(place.path);
  WALFS_ASSIGN(FileDescriptor directory,
               open_restored(place.directory, parent, O_PATH | O_DIRECTORY));
  return At{std::move(directory), name};
}

FollowedTree::Place FollowedTree::place_of(const Name& name) const {
  Place place = place_of(name.first);
  place.path += place.path.empty() ? name.second : "/" + name.second;
  return place;
}

FollowedTree::Place FollowedTree::place_of(FileId id) const {
  if (id == kRootId) return {root_.get(), ""};
  const File& file = files_.at(id);
  if (file.aside) return {aside_.get(), std::to_string(id)};
  return place_of(*file.names.begin());
}

Status FollowedTree::apply(const std::vector<PointPart>& parts) {
  before_.clear();
  touched_.clear();
  contents_.clear();
  dropped_.clear();
  for (const PointPart& part : parts) WALFS_TRY(note(part));
  std::erase_if(before_, [this](const auto& entry) {
    const auto names = entries_.find(entry.first.first);
    if (names == entries_.end()) return entry.second == kNoFile;
    const auto child = names->second.find(entry.first.second);
    return (child == names->second.end() ? kNoFile : child->second) == entry.second;
  });
  WALFS_TRY(take_away());
  WALFS_TRY(make_new_files());
  WALFS_TRY(write_contents());
  WALFS_TRY(give_names());
  WALFS_TRY(remove_dropped_files());
  return set_all_attributes();
}

void FollowedTree::note_entry(FileId parent, const std::string& name, FileId child) {
  auto& names = entries_[parent];
  const auto old = names.find(name);
  before_.try_emplace({parent, name}, old == names.end() ? kNoFile : old->second);
  if (child == kNoFile) {
    names.erase(name);
  } else {
    names[name] = child;
  }
}

Status FollowedTree::note(const PointPart& part) {
  for (const Change& change : part.changes) {
    if (const auto* file = std::get_if<SetFile>(&change)) {
      files_[file->id].planned.attributes = file->attributes;
      touched_.insert(file->id);
    } else if (const auto* drop = std::get_if<DropFile>(&change)) {
      if (drop->id == kRootId)
        return Error{Errc::kDamaged, "the replica is damaged: it drops its own directory"};
      const std::map<std::string, FileId> names = entries_[drop->id];
      for (const auto& [name, child] : names) note_entry(drop->id, name, kNoFile);
      files_[drop->id].dropped = true;
      dropped_.push_back(drop->id);
    } else if (const auto* entry = std::get_if<SetEntry>(&change)) {
      note_entry(entry->parent, entry->name, entry->child);
    } else {
      const auto& content = std::get<SetContent>(change);
      contents_.push_back({&part, &content});
      touched_.insert(content.id);
    }
  }
  return {};
}

// What loses its last name may get another one, so it is not removed yet.
Status FollowedTree::take_away() {
  for (const auto& [name, child] : before_) {
    if (child == kNoFile) continue;
    File& file = files_[child];
    if (!file.names.contains(name)) continue;
    WALFS_ASSIGN(const At from, at(place_of(name)));
    if (file.names.size() > 1) {
      if (::unlinkat(from.directory.get(), from.name.c_str(), 0) != 0)
        return error_from_errno("cannot remove " + name.second, errno);
    } else if (::renameat(from.directory.get(), from.name.c_str(), aside_.get(),
                          std::to_string(child).c_str()) != 0) {
      return error_from_errno("cannot move " + name.second, errno);
    } else {
      file.aside = true;
    }
    file.names.erase(name);
    touched_.insert(name.first);
  }
  return {};
}

Status FollowedTree::make_new_files() {
  for (const FileId id : touched_) {
    File& file = files_[id];
    if (on_disk(id) || file.missing || file.dropped) continue;
    const std::string name = std::to_string(id);
    const FileType type = file.planned.attributes.type;
    if (type == FileType::kDirectory) {
      if (::mkdirat(aside_.get(), name.c_str(), 0700) != 0)
        return error_from_errno("cannot create a directory", errno);
    } else if (type == FileType::kRegular) {
      WALFS_TRY(open_restored(aside_.get(), name, O_RDWR | O_CREAT | O_EXCL, 0600));
    } else {
      WALFS_TRY(create_special(aside_.get(), name, file.planned.attributes));
    }
    file.aside = true;
  }
  return {};
}

Status FollowedTree::write_contents() {
  for (const Content& content : contents_) {
    File& file = files_[content.change->id];
    if (!on_disk(content.change->id) || file.dropped) continue;
    const Place place = place_of(content.change->id);
    WALFS_ASSIGN(const FileDescriptor fd, open_restored(place.directory, place.path, O_RDWR));
    WALFS_TRY(write(content, file, fd.get()));
  }
  return {};
}

// The sum of the blocks' hashes follows the changes, and shows what else has changed the file.
Status FollowedTree::write(const Content& content, File& file, int fd) {
  const SetContent& change = *content.change;
  PlannedFile& planned = file.planned;
  const uint64_t old_size = change.reset ? 0 : planned.size;
  if (change.reset) {
    if (::ftruncate(fd, 0) != 0) return error_from_errno("cannot empty a file", errno);
    file.sum = 0;
  }
  if (!file.sum) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count_blocks(old_size, change.block_size); ++i) {
      WALFS_ASSIGN(const uint64_t hash, hash_at(fd, i, change.block_size, old_size));
      sum += hash;
    }
    file.sum = sum;
  }
  const std::set<uint64_t> affected = affected_blocks(change, old_size);
  for (const uint64_t index : affected) {
    WALFS_ASSIGN(const uint64_t hash, hash_at(fd, index, change.block_size, old_size));
    *file.sum -= hash;
  }
  if (::ftruncate(fd, static_cast<off_t>(change.size)) != 0)
    return error_from_errno("cannot give a file its size", errno);
  for (const BlockChange& block : change.blocks) {
    const uint64_t size = stored_block_size(block.index, change.block_size, change.size);
    Bytes bytes(size);
    if (block.hash != kZeroBlockHash) {
      WALFS_ASSIGN(bytes, content.part->read(block, size));
    }
    if (block_hash(block.index, bytes, change.block_size) != block.hash)
      return Error{Errc::kDamaged, "the replica is damaged: a block fails its checksum"};
    WALFS_TRY(write_at(fd, bytes, block.index * change.block_size, kFollowed));
  }
  for (const uint64_t index : affected) {
    WALFS_ASSIGN(const uint64_t hash, hash_at(fd, index, change.block_size, change.size));
    *file.sum += hash;
  }
  planned.block_size = change.block_size;
  planned.size = change.size;
  if (change.checksum && *change.checksum != *file.sum)
    return Error{Errc::kDamaged, place_of(change.id).path +
                                     " does not have the checksum that it should have: something "
                                     "else has changed it, or the replica is damaged"};
  return {};
}

Status FollowedTree::give_names() {
  for (const auto& entry : before_) {
    const Name& name = entry.first;
    const auto names = entries_.find(name.first);
    if (names == entries_.end() || !names->second.contains(name.second)) continue;
    const FileId child = names->second.at(name.second);
    if (!on_disk(child) || !on_disk(name.first))
      return Error{Errc::kUnsupported, "the log names a file that the directory does not have"};
    File& file = files_.at(child);
    WALFS_ASSIGN(const At to, at(place_of(name)));
    WALFS_ASSIGN(const At from, at(place_of(child)));
    const int failed = file.aside ? ::renameat(from.directory.get(), from.name.c_str(),
                                               to.directory.get(), to.name.c_str())
                                  : ::linkat(from.directory.get(), from.name.c_str(),
                                             to.directory.get(), to.name.c_str(), 0);
    if (failed != 0) return error_from_errno("cannot create " + name.second, errno);
    file.aside = false;
    file.names.insert(name);
    touched_.insert(name.first);
  }
  return {};
}

// What has lost its names and is not dropped is still open somewhere in the application, and may
// get contents.
Status FollowedTree::remove_dropped_files() {
  for (const FileId id : dropped_) {
    const auto file = files_.find(id);
    if (file == files_.end()) continue;
    if (!file->second.names.empty())
      return Error{Errc::kUnsupported, "the log drops a file that still has a name"};
    const bool is_directory = file->second.planned.attributes.type == FileType::kDirectory;
    if (file->second.aside &&
        ::unlinkat(aside_.get(), std::to_string(id).c_str(), is_directory ? AT_REMOVEDIR : 0) != 0)
      return error_from_errno("cannot remove a file", errno);
    entries_.erase(id);
    files_.erase(file);
  }
  return {};
}

// Children before their directories, whose times would change again otherwise.
Status FollowedTree::set_all_attributes() {
  std::vector<std::pair<std::string, FileId>> paths;
  for (const FileId id : touched_)
    if (on_disk(id)) paths.emplace_back(place_of(id).path, id);
  std::sort(paths.rbegin(), paths.rend());
  for (const auto& [path, id] : paths)
    WALFS_TRY(set_attributes(place_of(id).directory, path, files_.at(id).planned.attributes));
  return {};
}

Status FollowedTree::flush() const {
  if (::syncfs(root_.get()) != 0) return error_from_errno("cannot flush the directory", errno);
  return {};
}

}  // namespace walfs
