#include "replicator/snapshot_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/file_io.h"
#include "replicator/time.h"

namespace walfs {
namespace {

constexpr uint64_t kBatchSize = uint64_t{64} << 20;
// A snapshot goes on where the one before it ended, but for what has changed since.
constexpr unsigned kMissesMax = 32;
const std::string kScratchName = "the scratch file of a snapshot";

bool is_zeros(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

// There while a snapshot is not complete.
class Mark {
 public:
  explicit Mark(const std::string& scratch) : path_(scratch + "/snapshot-begun") {}
  // Whether an earlier snapshot was not completed.
  bool set() {
    if (::access(path_.c_str(), F_OK) == 0) return true;
    // Without it a chunk may be put once more, and that is all.
    const FileDescriptor made(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return false;
  }
  void remove() { ::unlink(path_.c_str()); }

 private:
  std::string path_;
};

// Slices that go through one scratch file, one behind the other.
struct SnapshotWriter::Batch {
  // Bytes of a decoded object, and where they go in the scratch file.
  struct Copy {
    uint64_t from = 0;
    uint64_t size = 0;
    uint64_t to = 0;
  };

  std::span<const Slice> slices;
  std::vector<uint64_t> places;  // Of each slice in the scratch file.
  std::map<uint32_t, std::vector<Copy>> chunks;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Copy>> frames;
  std::vector<Copy> zeros;

  Batch(std::span<const Slice> from, const Snapshot& snapshot) : slices(from) {
    uint64_t place = 0;
    for (const Slice& slice : slices) {
      places.push_back(place);
      add(slice, place, snapshot.files[slice.file].block_size);
      place += slice.size;
    }
  }

  static Status copy(int scratch, const Bytes& object, const std::vector<Copy>& copies);

  void add(const Slice& slice, uint64_t place, uint32_t block_size) {
    for (const Extent& extent : slice.base)
      chunks[extent.chunk].push_back(
          {extent.chunk_offset, extent.size, place + extent.file_offset - slice.offset});
    for (const auto& [block, from] : slice.blocks) {
      const uint64_t offset = block * block_size - slice.offset;
      const uint64_t room = std::min<uint64_t>(block_size, slice.size - offset);
      if (from.hash == kZeroBlockHash) {
        zeros.push_back({0, room, place + offset});
      } else {
        // A block that was the file's last one may be shorter than it has become.
        const uint64_t size = std::min<uint64_t>(from.size, room);
        frames[{from.segment, from.frame}].push_back({from.offset, size, place + offset});
        if (size < room) zeros.push_back({0, room - size, place + offset + size});
      }
    }
  }
};

Status SnapshotWriter::Batch::copy(int scratch, const Bytes& object,
                                   const std::vector<Copy>& copies) {
  for (const Copy& part : copies) {
    if (part.from > object.size() || part.size > object.size() - part.from)
      return Error{Errc::kDamaged, "the replica is damaged: a block lies outside of its object"};
    WALFS_TRY(
        write_at(scratch, ByteView(object).subspan(part.from, part.size), part.to, kScratchName));
  }
  return {};
}

Status SnapshotWriter::check_stopping() const {
  if (!stopping_) return {};
  return Error{Errc::kCancelled, "stopped while a snapshot was written"};
}

Result<StoredObject> SnapshotWriter::write(const RoutedPlan& routed) {
  SnapshotDraft draft = draft_snapshot(routed.plan);
  snapshot_ = std::move(draft.snapshot);
  pack_.clear();
  packed_.clear();
  Mark mark(scratch_);
  ask_ = mark.set() ? kMissesMax : 0;
  const std::span<const Slice> slices(draft.slices);
  for (size_t begin = 0; begin < slices.size();) {
    size_t end = begin;
    for (uint64_t size = 0; end < slices.size() && size < kBatchSize; ++end)
      size += slices[end].size;
    WALFS_TRY(write_batch(routed, slices.data() + begin, slices.data() + end));
    begin = end;
  }
  WALFS_TRY(flush_pack());
  for (SnapshotFile& file : snapshot_.files) {
    std::sort(file.extents.begin(), file.extents.end(),
              [](const Extent& a, const Extent& b) { return a.file_offset < b.file_offset; });
  }
  const Bytes object = encode_snapshot(snapshot_);
  WALFS_TRY(check_stopping());
  WALFS_TRY(store_.put(snapshot_key(snapshot_.range), ObjectBody::of(object), PutMode::kIfAbsent));
  stored_.clear();
  mark.remove();
  return StoredObject{snapshot_.range, object.size(), 0};
}

Status SnapshotWriter::write_batch(const RoutedPlan& routed, const Slice* begin, const Slice* end) {
  const Batch batch({begin, end}, snapshot_);
  WALFS_ASSIGN(const FileDescriptor scratch, open_unnamed(scratch_, "to write a snapshot with"));
  WALFS_TRY(fetch(routed, batch, scratch.get()));
  return pack(batch, scratch.get());
}

// First the old content, then what the log lays over it.
Status SnapshotWriter::fetch(const RoutedPlan& routed, const Batch& batch, int scratch) {
  for (const auto& [chunk, copies] : batch.chunks) {
    WALFS_TRY(check_stopping());
    WALFS_ASSIGN(const Bytes content, load_chunk(store_, routed.plan.chunks[chunk]));
    WALFS_TRY(Batch::copy(scratch, content, copies));
  }
  for (const Batch::Copy& zeros : batch.zeros)
    WALFS_TRY(write_at(scratch, Bytes(zeros.size), zeros.to, kScratchName));
  for (const auto& [place, copies] : batch.frames) {
    WALFS_TRY(check_stopping());
    const auto& [segment, frame] = place;
    WALFS_ASSIGN(const Bytes content, load_frame(store_, routed.route.segments[segment],
                                                 routed.indexes[segment].frames[frame]));
    WALFS_TRY(Batch::copy(scratch, content, copies));
  }
  return {};
}

// Small slices share chunks.
Status SnapshotWriter::pack(const Batch& batch, int scratch) {
  for (size_t i = 0; i < batch.slices.size(); ++i) {
    const Slice& slice = batch.slices[i];
    WALFS_ASSIGN(Bytes content, read_at(scratch, batch.places[i], slice.size, kScratchName));
    content.resize(slice.size);  // The scratch file ends where zeros begin.
    if (slice.adds_to_checksum) add_to_checksum(slice, content);
    if (is_zeros(content)) continue;
    if (pack_.size() + content.size() > kChunkSizeMax) WALFS_TRY(flush_pack());
    packed_.push_back({slice.file, {slice.offset, slice.size, 0, pack_.size()}});
    pack_.insert(pack_.end(), content.begin(), content.end());
  }
  return {};
}

void SnapshotWriter::add_to_checksum(const Slice& slice, ByteView content) {
  SnapshotFile& file = snapshot_.files[slice.file];
  for (uint64_t at = 0; at < content.size(); at += file.block_size) {
    const uint64_t size = std::min<uint64_t>(file.block_size, content.size() - at);
    file.checksum += block_hash((slice.offset + at) / file.block_size, content.subspan(at, size),
                                file.block_size);
  }
}

Status SnapshotWriter::flush_pack() {
  if (pack_.empty()) return {};
  WALFS_TRY(check_stopping());
  const ChunkRef chunk{sha256(pack_), pack_.size()};
  WALFS_TRY(put(chunk));
  const auto number = static_cast<uint32_t>(snapshot_.chunks.size());
  snapshot_.chunks.push_back(chunk);
  for (Packed& packed : packed_) {
    packed.extent.chunk = number;
    snapshot_.files[packed.file].extents.push_back(packed.extent);
  }
  pack_.clear();
  packed_.clear();
  return {};
}

Status SnapshotWriter::put(const ChunkRef& chunk) {
  if (stored_.contains(chunk.digest)) return {};
  if (!was_put(chunk)) {
    const Bytes object = encode_chunk(pack_);
    WALFS_TRY(store_.put(chunk_key(chunk.digest), ObjectBody::of(object), PutMode::kPlain));
  }
  stored_.insert(chunk.digest);
  return {};
}

// An old one is put again, which makes it new: another writer's retention may be removing it.
bool SnapshotWriter::was_put(const ChunkRef& chunk) {
  constexpr int64_t kRecent = 6 * 3600 * kNsPerSecond;
  if (ask_ == 0) return false;
  const auto found = store_.list(chunk_key(chunk.digest), "", 1);  // head() tells no time.
  if (found.ok() && !found->empty() && now_ns() - found->front().modified_ns < kRecent) return true;
  --ask_;
  return false;
}

}  // namespace walfs
