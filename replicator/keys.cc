#include "replicator/keys.h"

namespace walfs {
namespace {

constexpr std::string_view kSegmentSuffix = ".seg";
constexpr std::string_view kSnapshotSuffix = ".snap";
constexpr std::string_view kEpochSuffix = ".json";

std::string range_text(PositionRange range) {
  return range.first.to_string() + "-" + range.last.to_string();
}

bool cut(std::string_view& text, std::string_view prefix, std::string_view suffix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

std::optional<PositionRange> parse_range(std::string_view text) {
  if (text.size() != 33 || text[16] != '-') return std::nullopt;
  const auto first = Position::parse(text.substr(0, 16));
  const auto last = Position::parse(text.substr(17));
  if (!first || !last || *last < *first) return std::nullopt;
  return PositionRange{*first, *last};
}

}  // namespace

std::string epoch_key(uint64_t epoch) {
  // The same digits as at the start of the epoch's positions.
  return std::string(kEpochPrefix) + Position::of(epoch, 0).to_string().substr(0, 6) +
         std::string(kEpochSuffix);
}

std::string segment_name(PositionRange range) {
  return range_text(range) + std::string(kSegmentSuffix);
}

std::string level_prefix(unsigned level) {
  return std::string(kLogPrefix) + std::to_string(level) + "/";
}

std::string segment_key(PositionRange range, unsigned level) {
  return level_prefix(level) + segment_name(range);
}

std::string snapshot_key(PositionRange range) {
  return std::string(kSnapshotPrefix) + range_text(range) + std::string(kSnapshotSuffix);
}

std::string chunk_key(const Sha256Digest& digest) {
  const std::string hex = to_hex(digest);
  return std::string(kChunkPrefix) + hex.substr(0, 2) + "/" + hex + ".chunk";
}

std::optional<uint64_t> parse_epoch_key(std::string_view key) {
  if (!cut(key, kEpochPrefix, kEpochSuffix) || key.size() != 6) return std::nullopt;
  std::string text(key);
  text.append("0000000000");
  const auto position = Position::parse(text);
  if (!position || position->epoch() == 0) return std::nullopt;
  return position->epoch();
}

std::optional<SegmentKey> parse_segment_key(std::string_view key) {
  if (!cut(key, kLogPrefix, "") || key.size() < 2 || key[1] != '/') return std::nullopt;
  const auto level = static_cast<unsigned>(key[0] - '0');
  const auto range = parse_segment_name(key.substr(2));
  if (level > kLevelMax || !range) return std::nullopt;
  return SegmentKey{*range, level};
}

std::optional<PositionRange> parse_segment_name(std::string_view name) {
  if (!cut(name, "", kSegmentSuffix)) return std::nullopt;
  return parse_range(name);
}

std::optional<PositionRange> parse_snapshot_key(std::string_view key) {
  if (!cut(key, kSnapshotPrefix, kSnapshotSuffix)) return std::nullopt;
  return parse_range(key);
}

}  // namespace walfs
