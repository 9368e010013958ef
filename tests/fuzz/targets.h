// What the fuzzers check, usable without libFuzzer: each function takes any bytes and ends the
// process when a promise of the parsers is broken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fs/capture/journal.h"
#include "fs/capture/sqlite_header.h"
#include "fs/capture/wal_follower.h"
#include "fs/capture/wal_index.h"
#include "replicator/base/bytes.h"
#include "tests/unit/wal_builder.h"

namespace walfs::fuzz {

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

inline ReadAt read_from(ByteView file) {
  return [file](uint64_t offset, std::span<uint8_t> into) -> size_t {
    if (offset >= file.size()) return 0;
    const size_t size = std::min(into.size(), file.size() - static_cast<size_t>(offset));
    std::copy_n(file.begin() + static_cast<long>(offset), size, into.begin());
    return size;
  };
}

// Scans until nothing more is found; the transactions in order.
inline std::vector<WalTransaction> follow(WalFollower& follower, ByteView file,
                                          uint64_t unchanged_below, size_t max_bytes) {
  std::vector<WalTransaction> all;
  for (bool more = true; more;) {
    WalScan scan = follower.scan(read_from(file), {unchanged_below, max_bytes});
    all.insert(all.end(), scan.transactions.begin(), scan.transactions.end());
    more = scan.more;
    unchanged_below = std::numeric_limits<uint64_t>::max();
  }
  return all;
}

inline bool same_position(const WalFollower& a, const WalFollower& b) {
  return a.following() == b.following() && a.committed_frame() == b.committed_frame() &&
         a.database_pages() == b.database_pages() && a.committed_end() == b.committed_end() &&
         a.valid_end() == b.valid_end() && a.pages_in_wal() == b.pages_in_wal();
}

// The transactions are in order, without gaps, within the file; each page can be read back.
inline void check_transactions(const WalFollower& follower,
                               const std::vector<WalTransaction>& transactions, ByteView file) {
  uint32_t end = 0;
  for (const WalTransaction& transaction : transactions) {
    require(transaction.first_frame == end + 1, "transactions follow each other");
    end = transaction.end_frame;
    require(transaction.database_pages != 0, "a commit has a database size");
    require(!transaction.pages.empty(), "a transaction has pages");
    uint32_t number = 0;
    for (const WalPage& page : transaction.pages) {
      require(page.number > number, "pages are in order, each once");
      number = page.number;
      require(page.frame >= transaction.first_frame && page.frame <= end, "frames are its own");
      require(page.offset + transaction.page_size <= file.size(), "pages lie in the file");
    }
  }
  require(end == follower.committed_frame(), "the position is the last commit");
  Bytes content(follower.page_size());
  for (const auto& [page, offset] : follower.pages_in_wal())
    require(follower.read_page(read_from(file), page, offset, content), "a page is readable");
}

inline void check_wal_as_it_is(ByteView file) {
  constexpr uint64_t kNothing = std::numeric_limits<uint64_t>::max();
  constexpr size_t kAll = std::numeric_limits<size_t>::max();
  WalFollower at_once;
  const auto transactions = follow(at_once, file, 0, kAll);
  check_transactions(at_once, transactions, file);

  WalFollower in_slices;
  const size_t slice = file.size() % 7 * 300 + 1;
  const auto sliced = follow(in_slices, file, kNothing, slice);
  require(sliced.size() == transactions.size(), "slices find the same transactions");
  require(same_position(in_slices, at_once), "slices reach the same position");

  // A log that grows, is cut, and grows again leads to where a fresh reading of it leads.
  const size_t cut = file.empty() ? 0 : (file.size() * 31 / 47 + file.back()) % file.size();
  WalFollower growing;
  follow(growing, file.first(cut), 0, kAll);
  follow(growing, file, cut, kAll);
  require(same_position(growing, at_once), "growth leads to the same position");
  WalFollower fresh;
  follow(fresh, file.first(cut), 0, kAll);
  follow(growing, file.first(cut), cut, kAll);
  require(same_position(growing, fresh), "a cut leads to the same position");
  follow(growing, file, cut, kAll);
  require(same_position(growing, at_once), "growth after a cut leads to the same position");
}

// As it is, and with its checksums made right, as a fuzzer hardly ever hits those.
inline void check_wal(ByteView file) {
  check_wal_as_it_is(file);
  if (!looks_like_wal(file) || file.size() < kWalHeaderSize) return;
  Bytes summed(file.begin(), file.end());
  testing::resum_wal(summed, (file[3] & 1) != 0);
  check_wal_as_it_is(summed);
}

inline void check_journal(ByteView file) {
  const ByteView first = file.first(std::min(file.size(), kJournalHeaderSize));
  const auto header = parse_journal_header(first, file.size());
  require(header.has_value() == journal_is_live(first, file.size()), "live means a header");
  if (header) {
    require(looks_like_journal(first), "a live journal has the magic");
    require(header->nonce == journal_nonce(first, file.size()), "one nonce");
    require(header->page_size <= 65536 && header->sector_size <= file.size(), "sizes in bounds");
  }
  const auto name = super_journal_name(read_from(file), file.size());
  if (name) {
    require(!name->empty() && name->size() <= 4096, "a name in bounds");
    require(parse_companion_name(*name).database.size() < name->size(), "a base is a part");
  }
  const auto database = parse_database_header(file);
  if (database) {
    require(database->page_size >= 512 && database->page_size <= 65536, "page size in bounds");
  }
  require(!parse_wal_index_header(file) || file.size() >= kWalIndexHeaderSize, "enough bytes");
}

}  // namespace walfs::fuzz
