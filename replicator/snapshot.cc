#include "replicator/snapshot.h"

#include "replicator/change_codec.h"
#include "replicator/compress.h"

namespace walfs {
namespace {

constexpr std::string_view kSnapshotMagic = "walfssnp";
constexpr std::string_view kChunkMagic = "walfschk";
constexpr uint16_t kSnapshotVersion = 1;
constexpr int kSnapshotCompression = 3;
constexpr uint64_t kPayloadMax = uint64_t{4} << 30;
constexpr size_t kChunkHeaderSize = 20;

Error newer(const std::string& name) {
  return Error{Errc::kUnsupported, name + " was written by a newer walfs; use that version"};
}

void encode_file(const SnapshotFile& file, ByteWriter& out) {
  out.varint(file.id);
  encode_attributes(file.attributes, out);
  out.varint(file.block_size);
  if (file.block_size == 0) return;
  out.varint(file.size);
  out.u8(file.database ? 1 : 0);
  out.u64(file.checksum);
  out.varint(file.extents.size());
  for (const Extent& extent : file.extents) {
    out.varint(extent.file_offset);
    out.varint(extent.size);
    out.varint(extent.chunk);
    out.varint(extent.chunk_offset);
  }
}

SnapshotFile decode_file(ByteReader& in, const std::vector<ChunkRef>& chunks) {
  SnapshotFile file;
  file.id = in.varint();
  file.attributes = decode_attributes(in);
  const uint64_t block_size = in.varint();
  if (file.id == kNoFile) in.fail();
  if (block_size == 0) return file;
  if (block_size < kBlockSizeMin || block_size > kBlockSizeMax) in.fail();
  file.block_size = static_cast<uint32_t>(block_size);
  file.size = in.varint();
  const uint8_t flags = in.u8();
  if (flags > 1 || file.size > uint64_t{INT64_MAX}) in.fail();
  file.database = flags == 1;
  file.checksum = in.u64();
  const uint64_t count = in.varint();
  if (!in.ok() || count > in.remaining() / 4) {
    in.fail();
    return file;
  }
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    Extent extent;
    extent.file_offset = in.varint();
    extent.size = in.varint();
    const uint64_t chunk = in.varint();
    extent.chunk_offset = in.varint();
    if (!in.ok() || chunk >= chunks.size() || extent.size > chunks[chunk].size ||
        extent.chunk_offset > chunks[chunk].size - extent.size ||
        extent.file_offset > uint64_t{INT64_MAX} || extent.file_offset % file.block_size != 0) {
      in.fail();
      break;
    }
    extent.chunk = static_cast<uint32_t>(chunk);
    file.extents.push_back(extent);
  }
  return file;
}

void decode_payload(ByteReader& in, Snapshot& snapshot) {
  const uint64_t chunk_count = in.varint();
  if (chunk_count > in.remaining() / 33) in.fail();
  for (uint64_t i = 0; i < chunk_count && in.ok(); ++i) {
    ChunkRef chunk;
    const ByteView digest = in.bytes(chunk.digest.size());
    if (in.ok()) std::copy(digest.begin(), digest.end(), chunk.digest.begin());
    chunk.size = in.varint();
    if (chunk.size == 0 || chunk.size > kChunkSizeMax) in.fail();
    snapshot.chunks.push_back(chunk);
  }
  const uint64_t file_count = in.varint();
  if (file_count > in.remaining()) in.fail();
  for (uint64_t i = 0; i < file_count && in.ok(); ++i) {
    snapshot.files.push_back(decode_file(in, snapshot.chunks));
  }
  const uint64_t entry_count = in.varint();
  if (entry_count > in.remaining()) in.fail();
  for (uint64_t i = 0; i < entry_count && in.ok(); ++i) {
    SetEntry entry;
    entry.parent = in.varint();
    entry.name = in.string(kNameMax);
    entry.child = in.varint();
    if (!valid_name(entry.name)) in.fail();
    snapshot.entries.push_back(std::move(entry));
  }
  if (!in.at_end()) in.fail();
}

}  // namespace

Bytes encode_snapshot(const Snapshot& snapshot) {
  ByteWriter payload;
  payload.varint(snapshot.chunks.size());
  for (const ChunkRef& chunk : snapshot.chunks) {
    payload.bytes(chunk.digest);
    payload.varint(chunk.size);
  }
  payload.varint(snapshot.files.size());
  for (const SnapshotFile& file : snapshot.files) encode_file(file, payload);
  payload.varint(snapshot.entries.size());
  for (const SetEntry& entry : snapshot.entries) {
    payload.varint(entry.parent);
    payload.string(entry.name);
    payload.varint(entry.child);
  }
  const Bytes stored = compress(payload.data(), kSnapshotCompression);
  ByteWriter out;
  out.bytes(as_bytes(kSnapshotMagic));
  out.u16(kSnapshotVersion);
  out.u16(0);
  out.u64(snapshot.range.first.value);
  out.u64(snapshot.range.last.value);
  out.u64(static_cast<uint64_t>(snapshot.time_ns));
  out.u64(payload.size());
  out.u64(stored_hash(stored));
  out.u64(stored_hash(out.data()));  // Over the header before this field.
  out.bytes(stored);
  return out.take();
}

namespace {

struct SnapshotHeader {
  PositionRange range;
  int64_t time_ns = 0;
  uint64_t raw_size = 0;
  uint64_t payload_hash = 0;
};

Result<SnapshotHeader> decode_header(const std::string& name, ByteView object) {
  if (object.size() < kSnapshotHeaderSize) return damaged(name, "it is too short");
  ByteReader in(object);
  if (as_text(in.bytes(8)) != kSnapshotMagic)
    return damaged(name, "it does not begin as a snapshot does");
  if (in.u16() != kSnapshotVersion || in.u16() != 0) return newer(name);
  SnapshotHeader header;
  header.range.first = Position{in.u64()};
  header.range.last = Position{in.u64()};
  header.time_ns = static_cast<int64_t>(in.u64());
  header.raw_size = in.u64();
  header.payload_hash = in.u64();
  if (in.u64() != stored_hash(object.first(kSnapshotHeaderSize - 8))) {
    return damaged(name, "its header fails its checksum");
  }
  return header;
}

}  // namespace

Result<int64_t> decode_snapshot_time(const std::string& name, ByteView header) {
  WALFS_ASSIGN(const SnapshotHeader decoded, decode_header(name, header));
  return decoded.time_ns;
}

Result<Snapshot> decode_snapshot(const std::string& name, ByteView object) {
  WALFS_ASSIGN(const SnapshotHeader header, decode_header(name, object));
  const ByteView stored = object.subspan(kSnapshotHeaderSize);
  if (header.raw_size > kPayloadMax || stored_hash(stored) != header.payload_hash) {
    return damaged(name, "its content fails its checksum");
  }
  WALFS_ASSIGN(const Bytes raw, decompress(name, stored, header.raw_size));
  Snapshot snapshot;
  snapshot.range = header.range;
  snapshot.time_ns = header.time_ns;
  ByteReader payload(raw);
  decode_payload(payload, snapshot);
  if (!payload.ok()) return damaged(name, "its content contradicts itself");
  return snapshot;
}

Bytes encode_chunk(ByteView content) {
  ByteWriter out;
  out.bytes(as_bytes(kChunkMagic));
  out.u16(kSnapshotVersion);
  out.u16(0);
  out.u64(content.size());
  out.bytes(compress(content, kSnapshotCompression));
  return out.take();
}

Result<Bytes> decode_chunk(const std::string& name, const ChunkRef& expected, ByteView object) {
  ByteReader in(object);
  if (as_text(in.bytes(8)) != kChunkMagic)
    return damaged(name, "it does not begin as a chunk does");
  if (in.u16() != kSnapshotVersion || in.u16() != 0) return newer(name);
  if (in.u64() != expected.size || !in.ok())
    return damaged(name, "it has another size than expected");
  WALFS_ASSIGN(Bytes content, decompress(name, object.subspan(kChunkHeaderSize), expected.size));
  if (sha256(content) != expected.digest) return damaged(name, "its content fails its checksum");
  return content;
}

}  // namespace walfs
