#include "fs/capture/sqlite_header.h"

#include <algorithm>
#include <bit>

#include "fs/capture/journal.h"
#include "fs/capture/wal_format.h"

namespace walfs {
namespace {

constexpr std::string_view kMagic{"SQLite format 3\0", 16};
constexpr uint32_t kUsablePageSizeMin = 480;
constexpr size_t kSuperJournalSuffixSize = 12;

bool is_page_size(uint32_t size) {
  return size >= 512 && size <= 65536 && std::has_single_bit(size);
}

bool is_upper_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

// "-mj", six hexadecimal digits, "9", two more: vdbeCommit() in SQLite's vdbeaux.c.
bool has_super_journal_suffix(std::string_view name) {
  if (name.size() <= kSuperJournalSuffixSize) return false;
  const std::string_view suffix = name.substr(name.size() - kSuperJournalSuffixSize);
  return suffix.starts_with("-mj") && suffix[9] == '9' &&
         std::all_of(suffix.begin() + 3, suffix.end(), is_upper_hex);
}

}  // namespace

std::optional<DatabaseHeader> parse_database_header(ByteView first_100_bytes) {
  const ByteView data = first_100_bytes;
  if (data.size() < kDatabaseHeaderSize) return std::nullopt;
  if (as_text(data.first(kMagic.size())) != kMagic) return std::nullopt;
  DatabaseHeader header;
  const uint16_t stored_size = get_be16(data, 16);
  header.page_size = stored_size == 1 ? 65536 : stored_size;
  header.write_version = data[18];
  header.read_version = data[19];
  header.reserved_bytes = data[20];
  if (!is_page_size(header.page_size) || header.read_version > 2) return std::nullopt;
  if (header.page_size - header.reserved_bytes < kUsablePageSizeMin) return std::nullopt;
  if (data[21] != 64 || data[22] != 32 || data[23] != 32) return std::nullopt;
  header.change_counter = get_be32(data, 24);
  const uint32_t page_count = get_be32(data, 28);
  if (page_count != 0 && get_be32(data, 92) == header.change_counter)
    header.page_count = page_count;
  return header;
}

bool looks_like_wal(ByteView first_bytes) {
  if (first_bytes.size() < 12) return false;
  const uint32_t magic = get_be32(first_bytes, 0);
  return (magic == kWalMagicLittleEndian || magic == kWalMagicBigEndian) &&
         get_be32(first_bytes, 4) == kWalVersion && is_page_size(get_be32(first_bytes, 8));
}

bool looks_like_journal(ByteView first_bytes) {
  return first_bytes.size() >= kJournalMagic.size() &&
         std::equal(kJournalMagic.begin(), kJournalMagic.end(), first_bytes.begin());
}

CompanionName parse_companion_name(std::string_view file_name) {
  struct Suffix {
    std::string_view text;
    CompanionKind kind;
  };
  constexpr Suffix kSuffixes[] = {{"-wal", CompanionKind::kWal},
                                  {"-shm", CompanionKind::kShm},
                                  {"-journal", CompanionKind::kJournal}};
  for (const Suffix& suffix : kSuffixes) {
    if (file_name.size() > suffix.text.size() && file_name.ends_with(suffix.text))
      return {suffix.kind, file_name.substr(0, file_name.size() - suffix.text.size())};
  }
  if (has_super_journal_suffix(file_name))
    return {CompanionKind::kSuperJournal,
            file_name.substr(0, file_name.size() - kSuperJournalSuffixSize)};
  return {};
}

}  // namespace walfs
