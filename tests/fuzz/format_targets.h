// What the fuzzers of the replica's formats check, usable without libFuzzer: each function takes
// any bytes and ends the process when a promise of the readers is broken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "replicator/change_codec.h"
#include "replicator/compress.h"
#include "replicator/hash.h"
#include "replicator/keys.h"
#include "replicator/restore_plan.h"
#include "replicator/segment.h"
#include "replicator/snapshot.h"
#include "replicator/time.h"

namespace walfs::fuzz {

inline void promise(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

inline void put_u64(Bytes& bytes, size_t at, uint64_t value) {
  for (size_t i = 0; i < 8; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

inline uint64_t get_u64(ByteView bytes, size_t at) {
  ByteReader in(bytes.subspan(at, 8));
  return in.u64();
}

inline void check_content(const SetContent& change, const SegmentIndex& index) {
  promise(change.block_size >= kBlockSizeMin && change.block_size <= kBlockSizeMax, "block size");
  uint64_t next = 0;
  for (const BlockChange& block : change.blocks) {
    promise(block.index >= next, "blocks ascend");
    next = block.index + 1;
    const uint64_t size = stored_block_size(block.index, change.block_size, change.size);
    promise(size > 0 && size <= change.block_size, "blocks lie before the end of the file");
    promise(block.hash != kUnknownHash, "every block has a hash");
    if (block.hash == kZeroBlockHash) continue;
    const size_t number = index.frame_of(block.data_offset);
    promise(number < index.frames.size(), "a block has a frame");
    const auto& frame = index.frames[number];
    promise(block.data_offset >= frame.data_start &&
                block.data_offset + size <= frame.data_start + frame.raw_size,
            "a block lies in its frame");
  }
}

// Builds a plan of what was read; nothing in it may lie outside of what it refers to.
inline void check_plan(const Snapshot& snapshot, const SegmentIndex* index) {
  PlanBuilder builder(snapshot, {});
  if (index != nullptr) builder.add(*index);
  const auto plan = builder.finish();
  if (!plan.ok()) return;
  const auto paths = plan_paths(*plan);
  if (!paths.ok()) return;
  for (const PlannedPath& path : *paths) {
    promise(plan->files.contains(path.id), "a path has a file");
    promise(path.path.empty() || path.path.front() != '/', "paths are relative");
    promise(("/" + path.path + "/").find("/../") == std::string::npos, "paths lead beneath");
  }
}

inline void check_segment_as_it_is(ByteView object) {
  uint64_t largest = 0;
  const ReadObjectRange read = [&](uint64_t offset, uint64_t size) -> Result<Bytes> {
    largest = std::max(largest, size);
    if (offset > object.size() || size > object.size() - offset) {
      return Error{Errc::kDamaged, "the object ends before the range"};
    }
    const ByteView part = object.subspan(offset, size);
    return Bytes(part.begin(), part.end());
  };
  const auto index = read_segment_index("segment", object.size(), read);
  promise(largest <= object.size(), "nothing is read that cannot be there");
  if (!index.ok()) return;
  promise(!index->points.empty() && index->first <= index->last, "a segment has points");
  for (const auto& frame : index->frames) {
    promise(frame.offset >= kSegmentHeaderSize && frame.raw_size <= kFrameRawMax &&
                frame.stored_size <= object.size() - frame.offset,
            "frames lie in the segment");
    const auto stored = read(frame.offset, frame.stored_size);
    promise(stored.ok(), "frames can be read");
    const auto raw = decode_frame("segment", frame, *stored);
    promise(!raw.ok() || raw->size() == frame.raw_size, "a frame has its size");
  }
  for (const Point& point : index->points) {
    for (const Change& change : point.changes) {
      if (const auto* content = std::get_if<SetContent>(&change)) check_content(*content, *index);
      if (const auto* entry = std::get_if<SetEntry>(&change)) {
        promise(valid_name(entry->name), "names are names");
      }
    }
  }
  Snapshot nothing;
  nothing.range = {Position{index->first.value - 1}, index->first};
  check_plan(nothing, &*index);
}

// The positions and an index without compression, made a segment with such flags.
inline void check_segment_index(ByteView object, uint16_t flags) {
  if (object.size() < 16) return;
  ByteWriter out;
  out.bytes(as_bytes("walfsseg"));
  out.u16(1);
  out.u16(flags);
  out.u32(0);
  out.bytes(object.first(16));
  const Bytes header = out.data();
  const ByteView index = object.subspan(16);
  const Bytes frames(std::min<size_t>(index.size(), 300), 'x');
  const Bytes stored = compress(index, 1);
  ByteWriter trailer;
  trailer.u64(header.size() + frames.size());
  trailer.u32(static_cast<uint32_t>(stored.size()));
  trailer.u32(static_cast<uint32_t>(index.size()));
  trailer.u64(stored_hash(stored));
  Bytes covered = header;
  covered.insert(covered.end(), trailer.data().begin(), trailer.data().end());
  trailer.u64(stored_hash(covered));
  trailer.bytes(as_bytes("walfsend"));
  out.bytes(frames);
  out.bytes(stored);
  out.bytes(trailer.data());
  check_segment_as_it_is(out.data());
}

// As it is; with its checksums made right, as a fuzzer hardly ever hits those; and as an index
// without compression, which would hide it from the fuzzer.
inline void check_segment(ByteView object) {
  check_segment_as_it_is(object);
  if (object.size() >= kSegmentHeaderSize + kSegmentTrailerSize) {
    Bytes summed(object.begin(), object.end());
    const size_t trailer = summed.size() - kSegmentTrailerSize;
    const uint64_t offset = get_u64(summed, trailer);
    if (offset <= trailer) {
      put_u64(summed, trailer + 16,
              stored_hash(ByteView(summed).subspan(offset, trailer - offset)));
    }
    Bytes covered(summed.begin(), summed.begin() + kSegmentHeaderSize);
    covered.insert(covered.end(), summed.begin() + static_cast<std::ptrdiff_t>(trailer),
                   summed.begin() + static_cast<std::ptrdiff_t>(trailer + 24));
    put_u64(summed, trailer + 24, stored_hash(covered));
    check_segment_as_it_is(summed);
  }
  check_segment_index(object, 0);
  check_segment_index(object, 1);
}

inline void check_snapshot_as_it_is(ByteView object) {
  const auto snapshot = decode_snapshot("snapshot", object);
  if (!snapshot.ok()) return;
  for (const SnapshotFile& file : snapshot->files) {
    promise(file.block_size == 0 ||
                (file.block_size >= kBlockSizeMin && file.block_size <= kBlockSizeMax),
            "block size");
    for (const Extent& extent : file.extents) {
      promise(extent.chunk < snapshot->chunks.size(), "an extent has a chunk");
      const uint64_t size = snapshot->chunks[extent.chunk].size;
      promise(size <= kChunkSizeMax && extent.chunk_offset <= size &&
                  extent.size <= size - extent.chunk_offset,
              "an extent lies in its chunk");
      promise(extent.file_offset % file.block_size == 0, "extents begin at blocks");
    }
  }
  for (const SetEntry& entry : snapshot->entries)
    promise(valid_name(entry.name), "names are names");
  const auto again = decode_snapshot("snapshot", encode_snapshot(*snapshot));
  promise(again.ok() && again->files.size() == snapshot->files.size() &&
              again->entries.size() == snapshot->entries.size(),
          "what was read can be written and read again");
  check_plan(*snapshot, nullptr);
}

// As it is, as a payload with a header and checksums of ours, and as a chunk.
inline void check_snapshot(ByteView object) {
  check_snapshot_as_it_is(object);
  const Bytes stored = compress(object, 1);
  ByteWriter out;
  out.bytes(as_bytes("walfssnp"));
  out.u32(1);
  out.u64(1);
  out.u64(2);
  out.u64(3);
  out.u64(object.size());
  out.u64(stored_hash(stored));
  out.u64(stored_hash(out.data()));
  out.bytes(stored);
  check_snapshot_as_it_is(out.data());
  ChunkRef expected;
  expected.size = object.empty() ? 0 : object[0];
  const auto chunk = decode_chunk("chunk", expected, object);
  promise(!chunk.ok() || sha256(*chunk) == expected.digest, "a chunk has the content of its name");
}

inline void check_keys(std::string_view text) {
  if (const auto key = parse_segment_key(text)) {
    promise(segment_key(key->range, key->level) == text && key->range.first <= key->range.last,
            "one key of a segment");
  }
  if (const auto range = parse_segment_name(text)) {
    promise(segment_name(*range) == text, "one name of a segment");
  }
  if (const auto range = parse_snapshot_key(text)) {
    promise(snapshot_key(*range) == text, "one key of a snapshot");
  }
  if (const auto epoch = parse_epoch_key(text)) {
    promise(*epoch != 0 && epoch_key(*epoch) == text, "one key of an epoch");
  }
  if (const auto position = Position::parse(text)) {
    promise(position->to_string() == text, "one text of a position");
  }
  if (const auto time = parse_time(text)) {
    const auto again = parse_time(format_time(*time));
    promise(*time < 0 || (again && *again <= *time && *time - *again < 1'000'000),
            "a time is read back to the millisecond");
  }
}

}  // namespace walfs::fuzz
