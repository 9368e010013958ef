// A position names one point of a volume's log: the state of the whole directory at one instant.
//
// The upper 24 bits are the epoch (one writer's claim on the volume, see epoch.h), the lower 40
// bits the sequence number. The sequence goes on counting over epochs; a writer that was replaced
// can therefore never produce a position of its successor. People see 16 hex digits.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace walfs {

struct Position {
  static constexpr unsigned kSequenceBits = 40;
  static constexpr uint64_t kSequenceMax = (uint64_t{1} << kSequenceBits) - 1;
  static constexpr uint64_t kEpochMax = (uint64_t{1} << 24) - 1;

  uint64_t value = 0;  // 0: before the first point.

  static Position of(uint64_t epoch, uint64_t sequence) {
    return {(epoch << kSequenceBits) | sequence};
  }
  uint64_t epoch() const { return value >> kSequenceBits; }
  uint64_t sequence() const { return value & kSequenceMax; }
  Position next() const { return {value + 1}; }
  auto operator<=>(const Position&) const = default;

  std::string to_string() const;
  static std::optional<Position> parse(std::string_view text);  // Exactly 16 lower-case hex digits.
};

}  // namespace walfs
