#include "fs/tracking/file_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "fs/capture/sqlite_header.h"
#include "replicator/base/wal_format.h"
#include "replicator/hash.h"

namespace walfs {
namespace {

// Where the log holds the last committed bytes of a block; nothing if the file itself does.
std::optional<uint64_t> wal_offset(const Content& content, uint64_t block) {
  if (!content.follower.following() || block >= UINT32_MAX) return std::nullopt;
  const auto& pages = content.follower.pages_in_wal();
  const auto page = pages.find(static_cast<uint32_t>(block) + 1);
  if (page == pages.end()) return std::nullopt;
  return page->second;
}

void resize_known(Content& content, uint64_t size) {
  ContentState& known = content.known;
  known.size = size;
  const uint64_t count = known.block_count();
  for (uint64_t i = count; i < known.hashes.size(); ++i) {
    if (known.hashes[i] == kUnknownHash) {
      --content.unknown;
    } else {
      content.checksum -= known.hashes[i];
    }
  }
  known.hashes.resize(count, kZeroBlockHash);
}

// Sets a block's hash; false if it was that already.
bool set_known(Content& content, uint64_t block, uint64_t hash) {
  uint64_t& known = content.known.hashes[block];
  if (known == hash) return false;
  if (known == kUnknownHash) {
    --content.unknown;
  } else {
    content.checksum -= known;
  }
  content.checksum += hash;
  known = hash;
  return true;
}

// Starts over with another block size: nothing that was known counts any more.
void reset_known(Content& content, const ContentKind& kind) {
  content.known = ContentState{};
  content.known.block_size = kind.block_size;
  content.known.scanned = true;
  content.checksum = 0;
  content.unknown = 0;
}

void describe_commit(const Content& content, Commit& commit) {
  commit.block_size = content.known.block_size;
  commit.size = content.known.size;
  commit.database = content.known.database;
  if (content.unknown == 0) commit.checksum = content.checksum;
}

// Appends a block's bytes to the commit; buffers are filled one after the other.
class BlockCollector {
 public:
  BlockCollector(Commit& commit, const std::string& spool, uint64_t expected_bytes)
      : commit_(commit), spool_(spool), expected_(expected_bytes) {}

  void add(uint64_t index, uint64_t hash, ByteView data) {
    BlockChange block{index, hash, {}, 0};
    if (hash != kZeroBlockHash) {
      if (buffer_ == nullptr || used_ + data.size() > buffer_->size()) {
        constexpr uint64_t kBufferMax = uint64_t{256} << 20;
        const uint64_t size = std::clamp<uint64_t>(expected_, data.size(), kBufferMax);
        commit_.buffers.push_back(CommitBuffer::make(size, spool_));
        buffer_ = commit_.buffers.back().get();
        used_ = 0;
      }
      std::memcpy(buffer_->data() + used_, data.data(), data.size());
      block.data = {buffer_->data() + used_, data.size()};
      used_ += data.size();
      expected_ -= std::min<uint64_t>(expected_, data.size());
    }
    commit_.blocks.push_back(block);
  }

 private:
  Commit& commit_;
  const std::string& spool_;
  uint64_t expected_;
  CommitBuffer* buffer_ = nullptr;
  size_t used_ = 0;
};

// Takes over a transaction's pages that differ from what is known. False: some could not be read,
// and are dirty.
bool collect_pages(FileState& database, const std::vector<WalPage>& pages,
                   BlockCollector& collector) {
  Content& content = *database.content;
  bool all = true;
  Bytes buffer(content.known.block_size);
  for (const WalPage& page : pages) {
    const uint64_t block = page.number - 1;
    if (block >= content.known.hashes.size()) continue;  // Behind the end after a shrinking VACUUM.
    if (read_file(*content.wal, page.offset, buffer) != buffer.size()) {
      content.dirty.add(block * buffer.size(), (block + 1) * buffer.size());
      content.doubt = std::max(content.doubt, Doubt::kUnverified);
      all = false;
      continue;
    }
    const uint64_t hash = block_hash(block, buffer, content.known.block_size);
    if (set_known(content, block, hash)) collector.add(block, hash, buffer);
  }
  return all;
}

void take_transaction(FileState& database, const WalTransaction& transaction,
                      const std::string& spool, uint64_t order) {
  Content& content = *database.content;
  const uint64_t page_size = transaction.page_size;
  if (content.doubt != Doubt::kNone || content.known.block_size != page_size ||
      !content.known.database) {
    // No base to build on: the pages are compared when the doubt is settled.
    for (const WalPage& page : transaction.pages) {
      content.dirty.add((page.number - 1) * page_size, page.number * page_size);
    }
    content.size_dirty = true;
    content.doubt = std::max(content.doubt, Doubt::kUnverified);
    return;
  }
  Commit commit;
  commit.order = order;
  commit.wal = WalPoint{content.generation_base + transaction.generation, transaction.end_frame};
  const uint64_t old_size = content.known.size;
  resize_known(content, uint64_t{transaction.database_pages} * page_size);
  BlockCollector collector(commit, spool, transaction.pages.size() * page_size);
  if (!collect_pages(database, transaction.pages, collector)) {
    content.unfinished = std::move(commit);
    content.size_dirty = true;
    return;
  }
  if (commit.blocks.empty() && content.known.size == old_size) return;
  describe_commit(content, commit);
  content.commits.push_back(std::move(commit));
}

// Pages of a transaction that turned out to be void go back to what the state is without it.
void take_back(FileState& database, const std::vector<uint32_t>& pages) {
  Content& content = *database.content;
  const uint64_t page_size = content.known.block_size;
  for (const uint32_t page : pages) content.dirty.add((page - 1) * page_size, page * page_size);
  content.size_dirty = true;
  content.doubt = std::max(content.doubt, Doubt::kUnverified);
}

void note_generations(FileState& database, const WalScan& scan) {
  Content& content = *database.content;
  if (scan.skipped_generation) content.doubt = Doubt::kUnsynced;
  if (!scan.new_generation && !scan.ended_generation) return;
  // A checkpoint that allows a restart fsyncs the database, unless synchronous is OFF; then frames
  // may have been overwritten that never reached us, and their pages are in the database file only.
  // A scan may be the first look at a generation that has long been checkpointed: the syncs count
  // from the write of its header.
  const bool synced = content.generation_before_synced.value_or(content.synced_in_generation);
  if (!synced) content.doubt = Doubt::kUnsynced;
  // The sync of a checkpoint that a new generation follows shows the opposite, whatever was doubted
  // before it: the database file has all of the generation that ended, and the log what came since.
  if (synced && content.synced && scan.new_generation && !scan.skipped_generation &&
      content.follower.generation() > 1 && content.doubt > Doubt::kUnverified)
    content.doubt = Doubt::kUnverified;
  content.dirty_is_new = true;
  if (scan.new_generation) {
    if (!content.generation_before_synced) content.synced_in_generation = false;
    content.generation_before_synced.reset();
    constexpr size_t kGenerationsKept = 8;
    content.generations.emplace_back(content.follower.header().salts,
                                     content.generation_base + content.follower.generation());
    if (content.generations.size() > kGenerationsKept) content.generations.pop_front();
  }
}

// Moves the known state to the file's block size and size, as the commit says it; true if either,
// or what the file is, has changed.
bool take_shape(Content& content, const ContentKind& kind, uint64_t size, Commit& commit) {
  const uint64_t old_size = content.known.size;
  const bool was_database = content.known.database;
  if (content.known.block_size != kind.block_size) {
    commit.reset = content.known.block_size != 0;
    reset_known(content, kind);
    content.dirty.clear();
    content.dirty.add(0, size);
  }
  content.known.database = kind.database;
  resize_known(content, size);
  return commit.reset || size != old_size || was_database != kind.database;
}

// Reads a block of the state; takes it over if it differs from what is known. False if it can't be
// read.
bool take_block(FileState& file, uint64_t block, Bytes& buffer, BlockCollector& collector) {
  Content& content = *file.content;
  const auto block_size = static_cast<uint32_t>(buffer.size());
  const uint64_t want = stored_block_size(block, block_size, content.known.size);
  file.read_error = 0;
  const size_t got = std::min<size_t>(read_logical(file, block, buffer), want);
  if (file.read_error != 0) return false;
  std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(got), buffer.end(), uint8_t{0});
  const ByteView data = ByteView(buffer).first(want);
  const uint64_t hash = block_hash(block, data, block_size);
  if (set_known(content, block, hash)) collector.add(block, hash, data);
  return true;
}

// Whether the file has another shape now; nothing if that can't be had.
std::optional<bool> begin_capture(FileState& file, Commit& commit) {
  file.read_error = 0;
  const ContentKind kind = detect_kind(file);
  const uint64_t size = logical_size(file);
  if (file.read_error != 0) return std::nullopt;
  return take_shape(*file.content, kind, size, commit);
}

// Blocks that were taken before, as long as the file has them.
void go_on_with(Commit before, const Content& content, Commit& commit) {
  if (commit.reset) return;
  commit.reset = before.reset;
  commit.blocks = std::move(before.blocks);
  commit.buffers = std::move(before.buffers);
  const uint64_t count = content.known.block_count();
  std::erase_if(commit.blocks, [&](const BlockChange& block) { return block.index >= count; });
}

// The dirty ones in [first, stop). What could not be read is returned, and read_error says why.
ByteRanges take_blocks(FileState& file, uint64_t first, uint64_t stop, BlockCollector& collector) {
  const ByteRanges& dirty = file.content->dirty;
  const uint32_t block_size = file.content->known.block_size;
  Bytes buffer(block_size);
  ByteRanges left;
  int error = 0;
  for (auto block = dirty.next_block(first, block_size); block && *block < stop;
       block = dirty.next_block(*block + 1, block_size)) {
    if (take_block(file, *block, buffer, collector)) continue;
    left.add(*block * block_size, (*block + 1) * block_size);
    error = file.read_error;
  }
  file.read_error = error;
  return left;
}

// A log whose header cannot be read has not ended. What can be read of it is read again later.
bool wal_is_readable(FileState& database) {
  Content& content = *database.content;
  std::array<uint8_t, kWalHeaderSize> header{};
  content.wal->read_error = 0;
  read_file(*content.wal, 0, header);
  database.read_error = content.wal->read_error;
  if (database.read_error == 0) return true;
  content.wal_written_from = std::min<uint64_t>(content.wal_written_from, kWalHeaderSize);
  return false;
}

}  // namespace

bool open_own(FileState& file) {
  if (file.own_fd.valid()) return true;
  if (file.path_fd < 0) {
    errno = EBADF;
    return false;
  }
  const std::string alias = "/proc/self/fd/" + std::to_string(file.path_fd);
  file.own_fd = FileDescriptor(::open(alias.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return file.own_fd.valid();
}

void let_go_of_descriptor(FileState& file) {
  const Content* content = file.content.get();
  const bool is_plain =
      content == nullptr ||
      (!content->known.database && content->wal == nullptr && content->journal == nullptr);
  if (is_plain && file.path_fd >= 0 && !file.kept_hot) file.own_fd.reset();
}

size_t read_file(FileState& file, uint64_t offset, std::span<uint8_t> into) {
  if (!open_own(file)) {
    file.read_error = errno;
    return 0;
  }
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t n = ::pread(file.own_fd.get(), into.data() + done, into.size() - done,
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) file.read_error = errno;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

// Not by fstat(2), which asks for the times too: since Linux 6.13 a filesystem gives each change of
// a file whose times were asked for a time of its own, and the kernel sends us those one by one.
std::optional<uint64_t> file_size(FileState& file) {
  struct statx attributes {};
  const int fd = file.own_fd.valid() ? file.own_fd.get() : file.path_fd;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &attributes) == 0) return attributes.stx_size;
  file.read_error = errno;
  return std::nullopt;
}

void wait_for_role(FileState& file) {
  const auto decided = [&file] {
    const std::scoped_lock lock(file.mutex);
    return !file.is_regular || file.role != Role::kNameOnly;
  };
  while (!decided()) std::this_thread::sleep_for(std::chrono::microseconds(100));
}

ContentKind detect_kind(FileState& file) {
  std::array<uint8_t, kDatabaseHeaderSize> first{};
  size_t size = 0;
  Content& content = *file.content;
  if (const auto offset = content.wal != nullptr ? wal_offset(content, 0) : std::nullopt) {
    size = read_file(*content.wal, *offset, first);
  } else {
    size = read_file(file, 0, first);
  }
  const auto header = parse_database_header(ByteView(first).first(size));
  if (!header) return {};
  return {header->page_size, true};
}

uint64_t logical_size(FileState& file) {
  const Content& content = *file.content;
  if (content.wal != nullptr && content.follower.following() &&
      content.follower.database_pages() != 0) {
    return uint64_t{content.follower.database_pages()} * content.follower.page_size();
  }
  return file_size(file).value_or(0);
}

size_t read_logical(FileState& file, uint64_t block, std::span<uint8_t> into) {
  Content& content = *file.content;
  if (content.wal != nullptr && content.follower.page_size() == into.size()) {
    if (const auto offset = wal_offset(content, block)) {
      const size_t got = read_file(*content.wal, *offset, into);
      if (got != into.size()) file.read_error = EIO;
      return got;
    }
  }
  return read_file(file, block * into.size(), into);
}

std::optional<Commit> capture_dirty(FileState& file, const std::string& spool) {
  Content& content = *file.content;
  Commit commit;
  const auto shape = begin_capture(file, commit);
  if (!shape) {
    content.doubt = std::max(content.doubt, Doubt::kUnverified);
    return std::nullopt;
  }
  const bool goes_on = content.unfinished.has_value();
  if (goes_on) go_on_with(*std::exchange(content.unfinished, {}), content, commit);
  BlockCollector collector(commit, spool, content.dirty.total_bytes() + content.known.block_size);
  const ByteRanges left = take_blocks(file, 0, content.known.block_count(), collector);
  const bool all = left.empty();
  content.dirty = left;
  content.size_dirty = !all;
  content.doubt = all ? Doubt::kNone : Doubt::kUnverified;
  if (!all) {
    content.unfinished = std::move(commit);
    return std::nullopt;
  }
  commit.settles_scan = std::exchange(content.scanned_dirty, false);
  const bool was_torn = std::exchange(content.torn, false);
  if (commit.blocks.empty() && !*shape && !was_torn && !goes_on) return std::nullopt;
  describe_commit(content, commit);
  return commit;
}

uint64_t capture_part(FileState& file, uint64_t begin, uint64_t end, const std::string& spool) {
  Content& content = *file.content;
  Commit commit;
  commit.torn = true;
  const auto shape = begin_capture(file, commit);
  if (!shape) return 0;
  if (content.unfinished) go_on_with(*std::exchange(content.unfinished, {}), content, commit);
  const uint32_t block_size = content.known.block_size;
  BlockCollector collector(commit, spool, end - begin + block_size);
  const uint64_t first = begin / block_size;
  const uint64_t stop = std::min((end + block_size - 1) / block_size, content.known.block_count());
  const ByteRanges left = take_blocks(file, first, stop, collector);
  content.dirty.remove(first * block_size, stop * block_size);
  for (const auto& [from, to] : left.ranges()) content.dirty.add(from, to);
  if (commit.blocks.empty() && !*shape) return 0;
  content.torn = true;
  content.size_dirty = true;
  content.doubt = std::max(content.doubt, Doubt::kUnverified);
  describe_commit(content, commit);
  commit.checksum.reset();
  const uint64_t taken = commit.blocks.size() * uint64_t{block_size};
  content.commits.push_back(std::move(commit));
  return taken;
}

size_t capture_wal(FileState& database, const std::string& spool, uint64_t order) {
  Content& content = *database.content;
  const ReadAt read = [&](uint64_t offset, std::span<uint8_t> into) {
    return read_file(*content.wal, offset, into);
  };
  size_t transactions = 0;
  bool more = wal_is_readable(database);
  while (more) {
    WalScanOptions options;
    options.unchanged_below = content.wal_written_from;
    content.wal_written_from = UINT64_MAX;
    content.wal_unread = 0;
    const WalScan scan = content.follower.scan(read, options);
    note_generations(database, scan);
    if (!scan.withdrawn.empty()) take_back(database, scan.withdrawn);
    for (const WalTransaction& transaction : scan.transactions) {
      take_transaction(database, transaction, spool, order);
    }
    transactions += scan.transactions.size();
    more = scan.more && content.wal->read_error == 0;
    if (content.wal->read_error == 0) continue;
    database.read_error = content.wal->read_error;
    content.wal_written_from = std::min<uint64_t>(options.unchanged_below, kWalHeaderSize);
  }
  // Whoever finds a transaction, the request that ended it waits for its order.
  if (transactions > 0) content.last_commit_order = order;
  return transactions;
}

bool expect_wal_header(FileState& database, ByteView first_bytes) {
  Content& content = *database.content;
  if (!parse_wal_header(first_bytes)) return false;
  std::array<uint8_t, kWalHeaderSize> now{};
  const size_t size = read_file(*content.wal, 0, now);
  if (size == now.size() && std::equal(now.begin(), now.end(), first_bytes.begin())) return false;
  content.generation_before_synced = content.synced_in_generation;
  content.synced_in_generation = false;
  return true;
}

void end_wal(FileState& database) {
  Content& content = *database.content;
  content.generation_base += content.follower.generation();
  content.follower = WalFollower();
  content.wal.reset();
  content.wal_written_from = UINT64_MAX;
  content.wal_unread = 0;
  content.dirty_is_new = true;
}

void check_checkpointed(FileState& database) {
  Content& content = *database.content;
  if (!content.dirty_is_new || content.doubt != Doubt::kNone) return;
  content.dirty_is_new = false;
  const uint32_t block_size = content.known.block_size;
  Bytes buffer(block_size);
  for (auto block = content.dirty.next_block(0, block_size); block;
       block = content.dirty.next_block(*block + 1, block_size)) {
    if (wal_offset(content, *block)) continue;
    const uint64_t begin = *block * block_size;
    if (*block < content.known.hashes.size()) {
      const size_t got = read_file(database, begin, buffer);
      const uint64_t hash = block_hash(*block, ByteView(buffer).first(got), block_size);
      if (hash != content.known.hashes[*block]) {
        content.doubt = Doubt::kUnsynced;
        content.synced_in_generation = false;  // No sync from before this tells of it.
        content.quiet_cuts = 0;
        return;
      }
    }
    content.dirty.remove(begin, begin + block_size);
  }
}

}  // namespace walfs
