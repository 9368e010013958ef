#include "fs/capture/sqlite_header.h"

#include <algorithm>

#include "fs/capture/journal.h"
#include "replicator/base/wal_format.h"

namespace walfs {
namespace {

constexpr size_t kSuperJournalSuffixSize = 12;

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
