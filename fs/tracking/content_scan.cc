#include "fs/tracking/content_scan.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace walfs {
namespace {

constexpr uint64_t kScanSlice = kChunkSizeMax;

// The file, if it is still what it was and replicated.
std::shared_ptr<FileState> open_unread(Tracker& tracker, const UnreadFile& unread) {
  const auto can_be_read = [](FileState& file) {
    const std::scoped_lock lock(file.mutex);
    return has_descriptor(file);
  };
  auto file = tracker.find(unread.id);
  if (file == nullptr || !can_be_read(*file)) file = tracker.open_path(unread.path);
  if (file == nullptr || file->id != unread.id || !can_be_read(*file)) return nullptr;
  wait_for_role(*file);
  return file;
}

// Reads each file that is still there. Some were renamed since they were found, or a directory
// above them was: they are looked for, until they are found or known to be removed.
template <typename Read>
Status read_each(Tracker& tracker, std::vector<UnreadFile> files, const std::atomic<bool>& stopping,
                 const Read& read) {
  constexpr int kLooksMax = 10;
  for (int look = 0; look < kLooksMax; ++look) {
    std::vector<UnreadFile> moved;
    for (const UnreadFile& unread : files) {
      if (stopping) return {};
      if (auto file = open_unread(tracker, unread)) {
        WALFS_TRY(read(unread, file));
        tracker.done_with(std::move(file));
      } else if (tracker.is_unread(unread.id)) {
        moved.push_back(unread);
      }
    }
    if (moved.empty()) return {};
    files = std::move(moved);
    WALFS_TRY(find_again(tracker, files));
  }
  return Error{Errc::kRetry, files.front().path + " is not found any more"};
}

}  // namespace

Status ContentComparison::run(const std::vector<UnreadFile>& files,
                              const std::atomic<bool>& stopping) {
  const auto compare_one = [&](const UnreadFile& unread, const File& file) {
    compare(file, stopping);
    if (stopping) return Status();
    tracker_.forget_unread(unread.id);
    end(*file);
    return Status();
  };
  WALFS_TRY(read_each(tracker_, files, stopping, compare_one));
  take_what_was_written_meanwhile(stopping);
  return {};
}

// A file that differs in most is read once: what differs is taken as soon as that is known.
void ContentComparison::compare(const File& file, const std::atomic<bool>& stopping) {
  read_log(*file);
  uint64_t offset = 0;
  uint64_t differing = 0;
  while (!stopping && differing <= part_bytes_) {
    const auto slice = compare_slice(*file, offset);
    if (!slice) break;
    differing += *slice;
    offset += slice_;
  }
  if (!stopping) take_in_parts(file, stopping);
}

// What a database's log has differs, too.
void ContentComparison::read_log(FileState& file) {
  {
    const std::scoped_lock lock(file.mutex);
    if (file.role != Role::kContent || tracker_.ensure_content(file).wal == nullptr) return;
  }
  tracker_.read_log(file);
}

// Blocks that equal those of the replica are dirty no more. How many bytes differ; nothing at the
// end of what the replica has.
std::optional<uint64_t> ContentComparison::compare_slice(FileState& file, uint64_t offset) {
  const std::scoped_lock lock(file.mutex);
  if (file.role != Role::kContent && !file.kept_hot) return std::nullopt;
  Content& content = tracker_.ensure_content(file);
  const uint32_t block_size = content.known.block_size;
  if (block_size == 0 || offset >= content.known.size) return std::nullopt;
  const uint64_t end = std::min(offset + slice_, content.known.size);
  uint64_t differing = 0;
  Bytes buffer(block_size);
  for (uint64_t block = offset / block_size; block * block_size < end; ++block) {
    const uint64_t begin = block * block_size;
    if (!content.dirty.intersects(begin, begin + block_size)) continue;
    file.read_error = 0;
    const size_t got = read_logical(file, block, buffer);
    if (file.read_error == 0 &&
        block_hash(block, ByteView(buffer).first(got), block_size) == content.known.hashes[block]) {
      content.dirty.remove(begin, begin + block_size);
    } else {
      differing += block_size;
    }
  }
  bytes_done_ += end - offset;
  return differing;
}

// Not a database that is sure of its boundaries: its transactions are captured as ever.
bool ContentComparison::has_parts(const FileState& file) const {
  if (file.role != Role::kContent || file.content == nullptr) return false;
  const Content& content = *file.content;
  return content.dirty.total_bytes() > part_bytes_ &&
         (!content.known.database || content.doubt != Doubt::kNone);
}

void ContentComparison::take_in_parts(const File& file, const std::atomic<bool>& stopping) {
  {
    const std::scoped_lock lock(file->mutex);
    if (!has_parts(*file)) return;
    file->content->comparing = true;
  }
  for (uint64_t offset = 0; !stopping && take_slice(file, offset);) offset += slice_;
}

// False at the end of the file, and if it is to be left alone by now.
bool ContentComparison::take_slice(const File& file, uint64_t offset) {
  bool changed_kind = false;
  bool is_database = false;
  uint64_t taken = 0;
  {
    const std::scoped_lock lock(file->mutex);
    if (file->role != Role::kContent || file->content == nullptr) return false;
    const Content& content = *file->content;
    const ContentState& known = content.known;
    if (offset >= logical_size(*file)) return false;
    if (known.database && content.doubt == Doubt::kNone) return false;
    const bool was_empty = known.size == 0;
    const bool was_database = known.database;
    taken = capture_part(*file, offset, offset + slice_, tracker_.spool());
    is_database = known.database;
    changed_kind = was_database != is_database || (was_empty && known.size > 0);
  }
  if (changed_kind) tracker_.reclassify_companions(file, is_database);
  found(taken);
  return true;
}

// A long comparison leaves much that was written behind it; the point at its end is not to be much
// larger than others. Applications that write faster than that are not waited for.
void ContentComparison::take_what_was_written_meanwhile(const std::atomic<bool>& stopping) {
  constexpr int kLooksMax = 5;
  for (int look = 0; look < kLooksMax && !stopping; ++look) {
    std::vector<File> files = tracker_.all_states();
    std::erase_if(files, [this](const File& file) {
      const std::scoped_lock lock(file->mutex);
      return !has_parts(*file) || file->content->comparing;
    });
    if (files.empty()) return;
    for (const File& file : files) {
      take_in_parts(file, stopping);
      if (stopping) return;
      end(*file);
    }
  }
}

void ContentComparison::end(FileState& file) {
  constexpr uint64_t kFileBytes = 1024;      // About what is kept of any file until it is settled.
  constexpr uint64_t kDescriptorsMax = 256;  // Of files that the kernel does not know.
  uint64_t left = 0;
  {
    const std::scoped_lock lock(file.mutex);
    if (file.content == nullptr) return;
    file.content->comparing = false;
    file.content->quiet_cuts = 0;
    left = kFileBytes + file.content->known.hashes.size() * sizeof(uint64_t) +
           std::min(file.content->dirty.total_bytes(), part_bytes_);
    let_go_of_descriptor(file);
    if (file.own_fd.valid() && file.path_fd < 0)
      left = std::max(left, part_bytes_ / kDescriptorsMax);
  }
  found(left);
}

void ContentComparison::found(uint64_t bytes) {
  found_ += bytes;
  if (found_ < part_bytes_) return;
  found_ = 0;
  ship_();
}

Result<bool> FirstUpload::run(const std::vector<UnreadFile>& files,
                              const std::atomic<bool>& stopping) {
  const auto read_one = [&](const UnreadFile& unread, const std::shared_ptr<FileState>& file) {
    return read(unread, *file, stopping);
  };
  WALFS_TRY(read_each(tracker_, files, stopping, read_one));
  if (stopping || !send_pack()) return false;
  return chunks_.wait();
}

Status FirstUpload::read(const UnreadFile& unread, FileState& file,
                         const std::atomic<bool>& stopping) {
  uint64_t offset = 0;
  bool more = true;
  while (more && !stopping) {
    WALFS_ASSIGN(more, read_slice(file, offset));
    if (!pack_slice(unread.id, offset)) return {};
    offset += kScanSlice;
  }
  if (!stopping) tracker_.forget_unread(unread.id);
  return {};
}

Result<bool> FirstUpload::read_slice(FileState& file, uint64_t offset) {
  slice_.clear();
  const std::scoped_lock lock(file.mutex);
  if (file.role != Role::kContent && !file.kept_hot) return false;
  Content& content = tracker_.ensure_content(file);
  if (content.wal != nullptr) {
    // Pages that a checkpoint has brought into the file are those of transactions that were taken
    // from the log, or else in doubt.
    capture_wal(file, tracker_.spool(), tracker_.next_order());
    check_checkpointed(file);
  }
  ContentState& known = content.known;
  const uint64_t size = known.size;
  const uint64_t end = std::min(offset + kScanSlice, size);
  // A file that is all in the log by now.
  if (known.scanned) return false;
  const bool certain = content.follower.following() && content.doubt == Doubt::kNone;
  // With its hot journal beside it a database is complete in the middle of a transaction, too.
  if (!certain && content.hot_journal == nullptr &&
      (!content.dirty.empty() || content.size_dirty)) {
    content.scanned_dirty = true;
    tracker_.list(file.shared_from_this());
  }
  Bytes& data = slice_;
  data.assign(offset < end ? end - offset : 0, 0);
  file.read_error = 0;
  read_file(file, offset, data);
  if (file.read_error != 0) {
    const Error error = error_from_errno("cannot read " + tracker_.path_of(file), file.read_error);
    return Error{Errc::kRetry, error.message};
  }
  bool all_zero = true;
  const uint64_t first = offset / known.block_size;
  std::vector<uint64_t> hashes;
  for (uint64_t at = 0; at < data.size(); at += known.block_size) {
    const uint64_t block = first + at / known.block_size;
    const ByteView bytes =
        ByteView(data).subspan(at, std::min<uint64_t>(known.block_size, data.size() - at));
    if (known.hashes[block] == kUnknownHash) {
      known.hashes[block] = block_hash(block, bytes, known.block_size);
      content.checksum += known.hashes[block];
      --content.unknown;
    }
    all_zero = all_zero && known.hashes[block] == kZeroBlockHash;
    hashes.push_back(known.hashes[block]);
  }
  known.scanned = end >= size;
  WALFS_TRY(catalog_.put_scanned(file.id, known, first, hashes));
  bytes_done_ += data.size();
  if (all_zero) data.clear();
  return !known.scanned;
}

// Adds the slice to the pack. Full slices of large files make chunks of their own, the same ones
// each time.
bool FirstUpload::pack_slice(FileId id, uint64_t offset) {
  if (slice_.empty()) return true;
  if (pack_.size() + slice_.size() > kChunkSizeMax && !send_pack()) return false;
  parts_.push_back({id, offset, slice_.size(), pack_.size()});
  pack_.insert(pack_.end(), slice_.begin(), slice_.end());
  slice_.clear();
  return true;
}

bool FirstUpload::send_pack() {
  if (pack_.empty()) return true;
  auto parts = std::exchange(parts_, {});
  return chunks_.add(
      std::exchange(pack_, {}), [this, parts = std::move(parts)](const ChunkRef& chunk) {
        for (const Part& part : parts) {
          const Status put =
              catalog_.put_extent(part.id, part.file_offset, part.size, chunk, part.chunk_offset);
          if (!put.ok()) spdlog::error("{}", put.error().message);
        }
      });
}

}  // namespace walfs
