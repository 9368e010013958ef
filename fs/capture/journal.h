// The parts of SQLite's rollback journal that tell which transaction it belongs to and whether that
// has ended. After https://www.sqlite.org/fileformat2.html#the_rollback_journal and SQLite's own
// writeJournalHdr(), readJournalHdr(), hasHotJournal() and readSuperJournal() in pager.c. Pure; all
// input is untrusted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "fs/capture/read_at.h"
#include "replicator/base/bytes.h"

namespace walfs {

inline constexpr size_t kJournalHeaderSize = 28;
inline constexpr std::array<uint8_t, 8> kJournalMagic = {0xd9, 0xd5, 0x05, 0xf9,
                                                         0x20, 0xa1, 0x63, 0xd7};
inline constexpr uint32_t kJournalRecordsToTheEnd = 0xffffffff;

// Integers are big-endian. The header fills a sector; only its first 28 bytes mean something.
struct JournalHeader {
  uint32_t records = 0;  // Page records behind the header; 0: none synced yet, so nothing of the
                         // database was changed yet; kJournalRecordsToTheEnd: count by the size.
  uint32_t nonce = 0;    // Random for each transaction (and each segment of a long journal).
  uint32_t initial_pages = 0;  // Size of the database before the transaction.
  uint32_t sector_size = 0;    // 32 to 65536, a power of two.
  uint32_t page_size = 0;      // 512 to 65536, a power of two; 0 in journals of SQLite < 3.5.8.
};

enum class JournalState {
  kNone,      // No content, or less than a header: no transaction.
  kEnded,     // The 28 bytes are zero: journal_mode=PERSIST ended the transaction.
  kStarting,  // Magic and record count are still zero, the rest is there: a transaction that has
              // not changed the database file yet (SQLite fills them in when it syncs).
  kLive,      // SQLite would roll this transaction back if its writer were gone.
  kInvalid,   // Anything else; SQLite would delete such a journal without using it.
};

// first_bytes: what the file has of its first 28 bytes; file_size: the whole file's. Whether a live
// journal is hot (its writer is gone) only locks can tell, and for one with a super-journal whether
// that exists.
JournalState journal_state(ByteView first_bytes, uint64_t file_size);
bool journal_is_live(ByteView first_bytes, uint64_t file_size);

// The header's fields, if the journal is live.
std::optional<JournalHeader> parse_journal_header(ByteView first_bytes, uint64_t file_size);

// The nonce of a starting or live journal. A journal that is found with another nonce than before
// belongs to another transaction: the one before has ended, however it did.
std::optional<uint32_t> journal_nonce(ByteView first_bytes, uint64_t file_size);

// The path of the super-journal at the end of a journal file of this size, if it names one. `read`
// is called for at most 16 + 4096 bytes.
std::optional<std::string> super_journal_name(const ReadAt& read, uint64_t file_size);

}  // namespace walfs
