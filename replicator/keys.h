// The keys of a replica's objects (FORMAT.md, "Keys"). Pure: strings in, strings out.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "replicator/hash.h"
#include "replicator/position.h"

namespace walfs {

inline constexpr std::string_view kVolumeKey = "volume.json";
inline constexpr std::string_view kEpochPrefix = "epochs/";
inline constexpr std::string_view kLogPrefix = "log/";  // Of all levels.
inline constexpr std::string_view kSnapshotPrefix = "snapshots/";
inline constexpr std::string_view kChunkPrefix = "chunks/";

// Two positions, first <= last: of a segment the first and last point; of a snapshot the last point
// before its pages were read and the point from which on it can be used.
struct PositionRange {
  Position first, last;
  auto operator<=>(const PositionRange&) const = default;
};

// Segments are uploaded at level 0; compaction writes the higher ones (compaction.h).
inline constexpr unsigned kLevelMax = 9;
struct SegmentKey {
  PositionRange range;
  unsigned level = 0;
  bool operator==(const SegmentKey&) const = default;
};

std::string epoch_key(uint64_t epoch);                             // epochs/<6 hex>.json
std::string level_prefix(unsigned level);                          // log/<level>/
std::string segment_key(PositionRange range, unsigned level = 0);  // log/<level>/<first>-<last>.seg
std::string snapshot_key(PositionRange range);                     // snapshots/<first>-<last>.snap
std::string chunk_key(const Sha256Digest& digest);                 // chunks/<2 hex>/<64 hex>.chunk
std::string segment_name(PositionRange range);  // <first>-<last>.seg, as in the spool

std::optional<uint64_t> parse_epoch_key(std::string_view key);
std::optional<SegmentKey> parse_segment_key(std::string_view key);
std::optional<PositionRange> parse_segment_name(std::string_view name);
std::optional<PositionRange> parse_snapshot_key(std::string_view key);

}  // namespace walfs
