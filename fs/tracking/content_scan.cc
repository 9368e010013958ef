#include "fs/tracking/content_scan.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace walfs {
namespace {

constexpr uint64_t kSlice = kChunkSizeMax;

// The file, if it is still what it was and replicated.
std::shared_ptr<FileState> open_unread(Tracker& tracker, const UnreadFile& unread) {
  auto file = tracker.find(unread.id);
  if (file == nullptr) file = tracker.open_path(unread.path);
  return file != nullptr && file->id == unread.id ? file : nullptr;
}

}  // namespace

void ContentComparison::run(const std::vector<UnreadFile>& files,
                            const std::atomic<bool>& stopping) {
  for (const UnreadFile& file : files) {
    if (stopping) return;
    compare(file, stopping);
  }
}

void ContentComparison::compare(const UnreadFile& unread, const std::atomic<bool>& stopping) {
  const auto file = open_unread(tracker_, unread);
  uint64_t offset = 0;
  Bytes buffer;
  while (file != nullptr && !stopping) {
    const std::scoped_lock lock(file->mutex);
    if (file->role != Role::kContent && !file->kept_hot) break;
    Content& content = tracker_.ensure_content(*file);
    const uint32_t block_size = content.known.block_size;
    const uint64_t end = std::min(offset + kSlice, content.known.size);
    if (block_size == 0 || offset >= content.known.size) {
      content.comparing = false;
      content.quiet_cuts = 0;
      break;
    }
    buffer.resize(block_size);
    for (uint64_t block = offset / block_size; block * block_size < end; ++block) {
      const uint64_t begin = block * block_size;
      if (!content.dirty.intersects(begin, begin + block_size)) continue;
      const size_t got = read_logical(*file, block, buffer);
      if (block_hash(block, ByteView(buffer).first(got), block_size) ==
          content.known.hashes[block]) {
        content.dirty.remove(begin, begin + block_size);
      }
    }
    bytes_done_ += end - offset;
    offset = end;
  }
  if (!stopping) tracker_.forget_unread(unread.id);
}

Result<bool> FirstUpload::run(const std::vector<UnreadFile>& files,
                              const std::atomic<bool>& stopping) {
  for (const UnreadFile& file : files) {
    if (stopping) return false;
    WALFS_TRY(read(file, stopping));
  }
  if (stopping || !send_pack()) return false;
  return chunks_.wait();
}

Status FirstUpload::read(const UnreadFile& unread, const std::atomic<bool>& stopping) {
  const auto file = open_unread(tracker_, unread);
  uint64_t offset = 0;
  bool more = file != nullptr;
  while (more && !stopping) {
    WALFS_ASSIGN(more, read_slice(*file, offset));
    if (!pack_slice(unread.id, offset)) return {};
    offset += kSlice;
  }
  if (!stopping) tracker_.forget_unread(unread.id);
  return {};
}

Result<bool> FirstUpload::read_slice(FileState& file, uint64_t offset) {
  slice_.clear();
  const std::scoped_lock lock(file.mutex);
  if (file.role != Role::kContent && !file.kept_hot) return false;
  Content& content = tracker_.ensure_content(file);
  ContentState& known = content.known;
  const uint64_t size = known.size;
  const uint64_t end = std::min(offset + kSlice, size);
  // A file that is all in the log by now.
  if (known.scanned) return false;
  // With its hot journal beside it a database is complete in the middle of a transaction, too.
  if (!content.follower.following() && content.hot_journal == nullptr &&
      (!content.dirty.empty() || content.size_dirty)) {
    content.scanned_dirty = true;
    tracker_.list(file.shared_from_this());
  }
  Bytes& data = slice_;
  data.assign(offset < end ? end - offset : 0, 0);
  read_file(file, offset, data);
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
