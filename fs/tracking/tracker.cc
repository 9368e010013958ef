// Which files there are, what is known of them, and which have something to do. What happens to
// their bytes is in tracker_content.cc, to their names in tracker_names.cc; what belongs together
// in companions.cc.
#include "fs/tracking/tracker.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace walfs {

Tracker::Tracker(Catalog& catalog, std::string spool, int root_fd, std::atomic<uint64_t>& order,
                 TouchedFiles::Table& touched)
    : catalog_(catalog),
      spool_(std::move(spool)),
      order_(order),
      touched_(touched),
      touched_before_(touched_.all()) {
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
  if (added) {
    decide_role(file, parent, name);
  } else {
    wait_for_role(*file);  // By another of its names.
  }
  return file;
}

TrackedFile* Tracker::attach(int path_fd, const struct stat& attributes, TrackedFile* parent,
                             const char* name) {
  if (attributes.st_dev != device_) return nullptr;
  const std::shared_lock places(places_mutex_);
  return new TrackedFile(
      state_for(path_fd, attributes, parent != nullptr ? parent->state : nullptr, name));
}

TrackedFile* Tracker::attach_again(int path_fd, const struct stat& attributes,
                                   const std::string& path, unsigned writers) {
  if (attributes.st_dev != device_) return nullptr;
  std::string place = path;
  if (place.empty()) {
    const std::scoped_lock lock(names_mutex_);
    const auto link = links_.find(attributes.st_ino);
    if (link != links_.end()) place = link->second;
  }
  const size_t slash = place.rfind('/');
  const std::string name = place.substr(slash == std::string::npos ? 0 : slash + 1);
  std::shared_ptr<FileState> parent;
  if (!place.empty()) parent = open_path(place.substr(0, slash == std::string::npos ? 0 : slash));
  auto* handle = new TrackedFile(
      state_for(path_fd, attributes, parent, parent != nullptr ? name.c_str() : nullptr));
  const std::scoped_lock lock(handle->state->mutex);
  handle->state->writers = writers;
  return handle;
}

void Tracker::set_link(uint64_t inode, const std::string& path) {
  const std::scoped_lock lock(names_mutex_);
  links_[inode] = path;
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

// No content has blocks of one byte, so the next capture begins anew and sends everything.
void Tracker::forget_known(Content& content) {
  content.known = ContentState{};
  content.known.scanned = true;
  content.known.block_size = 1;
  content.checksum = content.unknown = 0;
  content.size_dirty = true;
  content.doubt = Doubt::kUnverified;
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
    // What the replica has is not known.
    spdlog::error("{} will be sent anew: {}", path_of(file), stored.error().message);
    forget_known(content);
    const CatalogHeader header = catalog_.header();
    content.torn = content.torn_in_log = header.complete != header.position;
    list(file.shared_from_this());
  } else if (*stored) {
    content.known = std::move(**stored);
    content.torn = content.torn_in_log = content.known.torn;
  } else if (unread == Unread::kNothingThere) {
    const ContentKind kind = detect_kind(file);
    content.known.block_size = kind.block_size;
    content.known.database = kind.database;
    content.known.scanned = false;
    const auto size = file_size(file);
    content.known.size = size.value_or(0);
    content.known.hashes.assign(content.known.block_count(), kUnknownHash);
    // The catalog must know that the rest is yet to be read when the log tells it of some blocks:
    // else it takes the others for zeros, and nobody reads them.
    const Status put = catalog_.put_scanned(file.id, content.known, 0, {});
    if (!put.ok()) spdlog::error("{}: {}", path_of(file), put.error().message);
    if (!size) {
      forget_known(content);
      list(file.shared_from_this());
    }
  } else {
    content.synced = content.synced_in_generation = write_through_;  // It is new.
  }
  for (const uint64_t hash : content.known.hashes) {
    if (hash == kUnknownHash) {
      ++content.unknown;
    } else {
      content.checksum += hash;
    }
  }
  if (unread == Unread::kPerhapsChanged && stored.ok()) {
    const bool synced = is_synced(file.inode);
    content.doubt = synced ? Doubt::kUnverified : Doubt::kUnknown;
    content.synced = write_through_;  // The kernel may have pages that no server has seen.
    content.synced_in_generation = synced;
    content.comparing = true;
    content.size_dirty = true;
    const auto size = file_size(file);
    content.dirty.add(0, std::max(content.known.size, size.value_or(0)));
    if (!size) forget_known(content);
    list(file.shared_from_this());
  }
  return content;
}

bool Tracker::is_synced(uint64_t inode) {
  const std::scoped_lock lock(list_mutex_);
  return write_through_ || begins_ || touched_.is_synced(inode);
}

void Tracker::forget_unread(FileId id) {
  const std::scoped_lock lock(names_mutex_);
  unread_.erase(id);
}

bool Tracker::is_unread(FileId id) {
  const std::scoped_lock lock(names_mutex_);
  return unread_.contains(id);
}

bool Tracker::is_in_log(FileId id) {
  const auto file = find(id);
  const std::scoped_lock lock(list_mutex_);
  return file == nullptr || !file->listed;
}

void Tracker::list(const std::shared_ptr<FileState>& file) {
  if (file->listed && file->touched) return;
  const std::scoped_lock lock(list_mutex_);
  if (!std::exchange(file->touched, true)) {
    touched_.add(file->inode);
    touched_now_.push_back(file);
  }
  if (!std::exchange(file->listed, true)) listed_.push_back(file);
}

void Tracker::prune_again() {
  std::unordered_set<FileId> ids;
  {
    const std::scoped_lock lock(names_mutex_);
    ids = std::exchange(prune_again_, {});
  }
  for (const FileId id : ids)
    if (const auto file = find(id)) prune(file);
}

// A file with nothing to do any more is in the log as it is. Requests that are being executed touch
// it again before they are answered, or are executed again by the next server.
void Tracker::sealed(bool compared) {
  prune_again();
  std::vector<std::shared_ptr<FileState>> files;
  {
    const std::scoped_lock lock(list_mutex_);
    files = std::exchange(touched_now_, {});
  }
  const auto is_done = [this](const std::shared_ptr<FileState>& file) {
    const std::scoped_lock lock(file->mutex, list_mutex_);
    if (file->listed) return false;
    file->touched = false;
    touched_.remove(file->inode);
    return true;
  };
  std::vector<std::shared_ptr<FileState>> still;
  for (const auto& file : files) {
    if (is_done(file)) {
      prune(file);
    } else {
      still.push_back(file);
    }
  }
  const std::scoped_lock lock(list_mutex_);
  touched_now_.insert(touched_now_.end(), still.begin(), still.end());
  if (!compared) return;
  // Not for an instant is one taken out that is to stay: a server may die at any.
  std::unordered_set<uint64_t> stay;
  for (const auto& file : touched_now_) stay.insert(file->inode);
  for (const uint64_t inode : std::exchange(touched_before_, {}))
    if (!stay.contains(inode)) touched_.remove(inode);
  for (const uint64_t inode : stay) touched_.add(inode);
  if (touched_.everything() && touched_now_.size() < TouchedFiles::kFilesMax / 2)
    touched_.set_everything(false);
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

void Tracker::done_with(std::shared_ptr<FileState> file) {
  {
    const std::scoped_lock lock(file->mutex);
    if (!file->listed) let_go_of_descriptor(*file);
  }
  while (file != nullptr && file != root_) {
    prune(file);
    std::shared_ptr<FileState> parent;
    {
      const std::scoped_lock lock(names_mutex_);
      parent = file->parent;
    }
    file = std::move(parent);
  }
}

void Tracker::prune(const std::shared_ptr<FileState>& file) {
  const std::scoped_lock lock(file->mutex, names_mutex_);
  if (file->path_fd >= 0 || file->listed || file->touched || file == root_) return;
  if (file->content != nullptr &&
      (file->content->wal != nullptr || file->content->journal != nullptr))
    return;
  if (file->role == Role::kWal || file->role == Role::kJournal) return;
  // The maps have it, and who calls; whoever else has it is about to use it.
  constexpr long kOwners = 3;
  if (file.use_count() > kOwners) {
    prune_again_.insert(file->id);
    return;
  }
  const auto found = states_.find(file->inode);
  if (found != states_.end() && found->second == file) states_.erase(found);
  by_id_.erase(file->id);
}

}  // namespace walfs
