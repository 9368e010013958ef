#include "fs/capture/journal.h"

#include <algorithm>
#include <bit>

namespace walfs {
namespace {

constexpr uint32_t kSuperJournalNameMax = 4096;
// Behind the name: its length, its checksum, the magic.
constexpr size_t kSuperJournalTailSize = 16;

bool starts_with_magic(ByteView data) {
  return std::equal(kJournalMagic.begin(), kJournalMagic.end(), data.begin());
}

bool all_zero(ByteView data) {
  return std::all_of(data.begin(), data.end(), [](uint8_t byte) { return byte == 0; });
}

JournalHeader fields_of(ByteView data) {
  return {get_be32(data, 8), get_be32(data, 12), get_be32(data, 16), get_be32(data, 20),
          get_be32(data, 24)};
}

bool has_valid_sizes(const JournalHeader& header) {
  const bool sector_ok = header.sector_size >= 32 && header.sector_size <= 65536 &&
                         std::has_single_bit(header.sector_size);
  const bool page_ok =
      header.page_size == 0 || (header.page_size >= 512 && header.page_size <= 65536 &&
                                std::has_single_bit(header.page_size));
  return sector_ok && page_ok;
}

}  // namespace

JournalState journal_state(ByteView first_bytes, uint64_t file_size) {
  if (first_bytes.size() < kJournalHeaderSize || file_size < kJournalHeaderSize)
    return JournalState::kNone;
  const ByteView data = first_bytes.first(kJournalHeaderSize);
  if (all_zero(data)) return JournalState::kEnded;
  const JournalHeader header = fields_of(data);
  if (!has_valid_sizes(header)) return JournalState::kInvalid;
  if (all_zero(data.first(12))) return JournalState::kStarting;
  if (!starts_with_magic(data) || file_size < header.sector_size) return JournalState::kInvalid;
  return JournalState::kLive;
}

bool journal_is_live(ByteView first_bytes, uint64_t file_size) {
  return journal_state(first_bytes, file_size) == JournalState::kLive;
}

std::optional<JournalHeader> parse_journal_header(ByteView first_bytes, uint64_t file_size) {
  if (!journal_is_live(first_bytes, file_size)) return std::nullopt;
  return fields_of(first_bytes);
}

std::optional<uint32_t> journal_nonce(ByteView first_bytes, uint64_t file_size) {
  const JournalState state = journal_state(first_bytes, file_size);
  if (state != JournalState::kLive && state != JournalState::kStarting) return std::nullopt;
  return fields_of(first_bytes).nonce;
}

std::optional<std::string> super_journal_name(const ReadAt& read, uint64_t file_size) {
  if (file_size < kSuperJournalTailSize) return std::nullopt;
  std::array<uint8_t, kSuperJournalTailSize> tail{};
  const uint64_t tail_at = file_size - tail.size();
  if (read(tail_at, tail) < tail.size()) return std::nullopt;
  if (!starts_with_magic(ByteView(tail).subspan(8))) return std::nullopt;
  const uint32_t length = get_be32(tail, 0);
  if (length == 0 || length > kSuperJournalNameMax || length > tail_at) return std::nullopt;
  std::string name(length, '\0');
  auto* bytes = reinterpret_cast<uint8_t*>(name.data());
  if (read(tail_at - length, {bytes, name.size()}) < name.size()) return std::nullopt;

  // SQLite adds up C chars, which are signed on some processors and unsigned on others.
  uint32_t as_signed = 0;
  uint32_t as_unsigned = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    as_unsigned += bytes[i];
    as_signed += static_cast<uint32_t>(static_cast<int8_t>(bytes[i]));
  }
  const uint32_t stored = get_be32(tail, 4);
  if (stored != as_signed && stored != as_unsigned) return std::nullopt;
  if (name.find('\0') != std::string::npos) return std::nullopt;
  return name;
}

}  // namespace walfs
