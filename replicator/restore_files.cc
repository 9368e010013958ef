#include "replicator/restore_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/file_io.h"
#include "replicator/restore_attributes.h"

namespace walfs {
namespace {

// The parts of the file for which the plan has content: first and end block of each, ascending.
std::vector<std::pair<uint64_t, uint64_t>> planned_parts(const PlannedFile& file) {
  std::vector<std::pair<uint64_t, uint64_t>> parts;
  const uint64_t count = count_blocks(file.size, file.block_size);
  const uint64_t limit = std::min(count, file.base_limit);
  for (const Extent& extent : file.extents) {
    for (uint64_t block = extent.file_offset / file.block_size;
         block < limit && block * file.block_size < extent.file_offset + extent.size; ++block)
      if (!file.blocks.contains(block)) parts.emplace_back(block, block + 1);
  }
  for (const auto& [block, place] : file.blocks)
    if (block < count && place.hash != kZeroBlockHash) parts.emplace_back(block, block + 1);
  std::sort(parts.begin(), parts.end());
  return parts;
}

// Frees what earlier content there is where the plan has none. False if the filesystem cannot.
bool clear_unplanned(int fd, const PlannedFile& file) {
  uint64_t end = 0;  // Of what is looked at, in blocks.
  const auto clear_up_to = [&](uint64_t block) {
    const uint64_t from = end * file.block_size;
    const uint64_t to = block * file.block_size;
    return to <= from || ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     static_cast<off_t>(from), static_cast<off_t>(to - from)) == 0;
  };
  for (const auto& [first, part_end] : planned_parts(file)) {
    if (!clear_up_to(first)) return false;
    end = std::max(end, part_end);
  }
  return clear_up_to(count_blocks(file.size, file.block_size));
}

}  // namespace

RestoredTree::RestoredTree(int directory, const RestorePlan& plan,
                           const std::vector<PlannedPath>& paths)
    : directory_(directory), plan_(plan), paths_(paths) {}

Status RestoredTree::create() {
  for (const PlannedPath& path : paths_) WALFS_TRY(create_one(path));
  return {};
}

Status RestoredTree::create_one(const PlannedPath& path) {
  const PlannedFile& planned = plan_.files.at(path.id);
  if (path.path.empty()) return {};
  const auto [parent, name] = split_path(path.path);
  if (planned.attributes.type == FileType::kDirectory) {
    WALFS_ASSIGN(const FileDescriptor directory,
                 open_restored(directory_, parent, O_RDONLY | O_DIRECTORY));
    if (::mkdirat(directory.get(), name.c_str(), 0700) != 0 && errno != EEXIST) {
      return error_from_errno("cannot restore " + path.path, errno);
    }
    return {};
  }
  if (planned.attributes.type != FileType::kRegular || files_.contains(path.id)) return {};
  return create_file(path, planned);
}

Status RestoredTree::create_file(const PlannedPath& path, const PlannedFile& planned) {
  auto entry = std::make_unique<File>();
  entry->path = path.path;
  entry->planned = &planned;
  WALFS_ASSIGN(const FileDescriptor file,
               open_restored(directory_, path.path, O_RDWR | O_CREAT, 0600));
  struct stat found {};
  bool resized = ::fstat(file.get(), &found) == 0 &&
                 ::ftruncate(file.get(), static_cast<off_t>(planned.size)) == 0;
  entry->earlier = resized && found.st_size != 0 && planned.size != 0;
  if (entry->earlier && !clear_unplanned(file.get(), planned)) {
    entry->earlier = false;
    resized = ::ftruncate(file.get(), 0) == 0 &&
              ::ftruncate(file.get(), static_cast<off_t>(planned.size)) == 0;
  }
  if (!resized) return error_from_errno("cannot restore " + path.path, errno);
  files_.emplace(path.id, std::move(entry));
  return {};
}

Result<std::shared_ptr<FileDescriptor>> RestoredTree::open_file(File& file) {
  constexpr size_t kOpenMax = 64;
  const std::scoped_lock lock(mutex_);
  if (file.opened == nullptr) {
    WALFS_ASSIGN(FileDescriptor fd, open_restored(directory_, file.path, O_RDWR));
    file.opened = std::make_shared<FileDescriptor>(std::move(fd));
    opened_.push_back(&file);
    if (opened_.size() > kOpenMax) {
      opened_.front()->opened.reset();
      opened_.pop_front();
    }
  }
  return file.opened;
}

Result<uint64_t> RestoredTree::Writer::add(FileId id, uint64_t index, ByteView data,
                                           std::optional<uint64_t> hash) {
  File& file = *tree_.files_.at(id);
  const uint32_t block_size = file.planned->block_size;
  const uint64_t offset = index * block_size;
  const uint64_t actual = block_hash(index, data, block_size);
  if (hash && actual != *hash) {
    return Error{Errc::kDamaged, "the replica is damaged: block " + std::to_string(index) + " of " +
                                     file.path + " fails its checksum"};
  }
  file.checksum += actual;
  const bool is_zero_already = actual == kZeroBlockHash && !file.earlier;
  if (is_zero_already || offset >= file.planned->size) return actual;
  const uint64_t whole = stored_block_size(index, block_size, file.planned->size);
  const ByteView content = data.first(std::min<uint64_t>(data.size(), whole));
  const bool goes_on = file_ == &file && offset == offset_ + run_.size() &&
                       content.data() == run_.data() + run_.size();
  if (goes_on) {
    run_ = ByteView(run_.data(), run_.size() + content.size());
  } else {
    WALFS_TRY(flush());
    file_ = &file;
    offset_ = offset;
    run_ = content;
  }
  if (!file.earlier || content.size() == whole) return actual;
  // Behind what is stored of a block there are zeros.
  WALFS_TRY(flush());
  const Bytes zeros(whole - content.size());
  WALFS_ASSIGN(const auto fd, tree_.open_file(file));
  WALFS_TRY(write_at(fd->get(), zeros, offset + content.size(), file.path));
  return actual;
}

Status RestoredTree::Writer::flush() {
  if (run_.empty()) return {};
  WALFS_ASSIGN(const auto fd, tree_.open_file(*file_));
  WALFS_TRY(write_at(fd->get(), run_, offset_, file_->path));
  // The disk shall be busy from the beginning, and not only when everything is there.
  constexpr size_t kWorthAWrite = 256 << 10;
  if (run_.size() >= kWorthAWrite)
    ::sync_file_range(fd->get(), static_cast<off_t>(offset_), static_cast<off_t>(run_.size()),
                      SYNC_FILE_RANGE_WRITE);
  run_ = {};
  return {};
}

Result<uint64_t> RestoredTree::hash_of_block(FileId id, uint64_t index) {
  File& file = *files_.at(id);
  const uint32_t block_size = file.planned->block_size;
  Bytes content(stored_block_size(index, block_size, file.planned->size));
  if (file.earlier) {
    WALFS_ASSIGN(const auto fd, open_file(file));
    WALFS_ASSIGN(content, read_at(fd->get(), index * block_size, content.size(), file.path));
  }
  return block_hash(index, content, block_size);
}

Status RestoredTree::verify() const {
  for (const auto& [id, file] : files_) {
    if (!file->planned->checksum || *file->planned->checksum == file->checksum) continue;
    return Error{Errc::kDamaged,
                 "the replica is damaged: " + file->path +
                     " does not have the checksum that it should have at this position"};
  }
  return {};
}

Status RestoredTree::finish() {
  std::map<FileId, std::string> made;
  for (const auto& [id, file] : files_) made.emplace(id, file->path);
  for (const PlannedPath& path : paths_) {
    const PlannedFile& planned = plan_.files.at(path.id);
    if (path.path.empty() || planned.attributes.type == FileType::kDirectory) continue;
    const auto [first, added] = made.emplace(path.id, path.path);
    if (added) {
      WALFS_TRY(create_special(directory_, path.path, planned.attributes));
    } else if (first->second != path.path) {
      const auto [parent, name] = split_path(path.path);
      WALFS_ASSIGN(const FileDescriptor directory,
                   open_restored(directory_, parent, O_RDONLY | O_DIRECTORY));
      if (::linkat(directory_, first->second.c_str(), directory.get(), name.c_str(), 0) != 0) {
        return error_from_errno("cannot restore the hard link " + path.path, errno);
      }
    }
  }
  // Children before their directories, whose times would change again otherwise.
  for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) {
    WALFS_TRY(set_attributes(directory_, path->path, plan_.files.at(path->id).attributes));
  }
  if (::syncfs(directory_) != 0) return error_from_errno("cannot flush the restored files", errno);
  return {};
}

}  // namespace walfs
