#include "fs/tracking/commit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <new>

namespace walfs {
namespace {

constexpr size_t kMappedFrom = size_t{4} << 20;

std::atomic<uint64_t> buffered_bytes{0};

void* map_unlinked_file(size_t size, const std::string& spool) {
  const int fd = ::open(spool.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return MAP_FAILED;
  void* data = MAP_FAILED;
  // Reserved now: a full disk must not become a signal at the first touch.
  if (::posix_fallocate(fd, 0, static_cast<off_t>(size)) == 0) {
    data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  return data;
}

}  // namespace

std::unique_ptr<CommitBuffer> CommitBuffer::make(size_t size, const std::string& spool) {
  std::unique_ptr<CommitBuffer> buffer(new CommitBuffer);
  buffer->size_ = size;
  buffered_bytes += size;
  if (size >= kMappedFrom) {
    void* data = map_unlinked_file(size, spool);
    if (data != MAP_FAILED) {
      buffer->data_ = static_cast<uint8_t*>(data);
      buffer->mapped_ = true;
      return buffer;
    }
  }
  buffer->data_ = static_cast<uint8_t*>(std::malloc(std::max<size_t>(size, 1)));
  if (buffer->data_ == nullptr) throw std::bad_alloc();
  return buffer;
}

uint64_t CommitBuffer::bytes_in_use() {
  return buffered_bytes;
}

CommitBuffer::~CommitBuffer() {
  buffered_bytes -= size_;
  if (mapped_) {
    ::munmap(data_, size_);
  } else {
    std::free(data_);
  }
}

SetContent merge_commits(FileId id, std::vector<Commit>& commits,
                         std::vector<std::unique_ptr<CommitBuffer>>& buffers) {
  SetContent change;
  change.id = id;
  std::map<uint64_t, BlockChange> blocks;
  uint64_t smallest = UINT64_MAX;  // Of the block counts on the way.
  for (Commit& commit : commits) {
    if (commit.reset) blocks.clear();
    change.reset = change.reset || commit.reset;
    change.block_size = commit.block_size;
    change.size = commit.size;
    change.database = commit.database;
    change.checksum = commit.checksum;
    const uint64_t blocks_now = (commit.size + commit.block_size - 1) / commit.block_size;
    smallest = commit.reset ? blocks_now : std::min(smallest, blocks_now);
    blocks.erase(blocks.lower_bound(blocks_now), blocks.end());
    for (const BlockChange& block : commit.blocks) blocks[block.index] = block;
    for (auto& buffer : commit.buffers) buffers.push_back(std::move(buffer));
  }
  const uint64_t count =
      change.block_size == 0 ? 0 : (change.size + change.block_size - 1) / change.block_size;
  // Where the file had shrunk before it grew again there are zeros now, whatever the replica has
  // there.
  if (!change.reset) {
    for (uint64_t index = smallest; index < count; ++index) {
      blocks.try_emplace(index, BlockChange{index, kZeroBlockHash, {}, 0});
    }
  }
  for (auto& [index, block] : blocks) {
    if (index >= count) break;
    // The end may lie elsewhere now: what is stored is cut or filled to it by the reader's rule.
    const uint64_t stored = stored_block_size(index, change.block_size, change.size);
    if (block.data.size() > stored) block.data = block.data.first(stored);
    if (block.hash != kZeroBlockHash && block.data.size() < stored) {
      auto padded = CommitBuffer::make(stored, {});
      std::copy(block.data.begin(), block.data.end(), padded->data());
      std::fill(padded->data() + block.data.size(), padded->data() + stored, uint8_t{0});
      block.data = {padded->data(), stored};
      buffers.push_back(std::move(padded));
    }
    change.blocks.push_back(block);
  }
  return change;
}

}  // namespace walfs
