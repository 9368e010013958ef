// Follows a SQLite write-ahead log and tells which transactions were committed to it (I1, I2).
//
// Rules, after SQLite's own recovery (walIndexRecover in its wal.c) and writer (walFrames):
//  1. Only a chain counts: header, salts and cumulative checksum of every frame from the last
//     commit to a frame whose "database size" is not 0. The position advances at commits only.
//  2. A frame behind the last commit may be overwritten in place while its transaction is open (a
//     page that is spilled twice) and the checksums behind it are then made new. So nothing that
//     was read of an open transaction is trusted if it may have been written to since: the caller
//     says below which offset nothing was (`unchanged_below`), the rest is read again. By default
//     nothing is known and all of it is; a caller that sees every write pays only for what was
//     written.
//  3. A header with other salts begins a new generation at frame 1. Frames of it that arrive before
//     their header do not match the old salts and are left alone until the header is there.
//  4. The last commit itself can turn out to be void: if SQLite's sync of it fails, SQLite gives
//     the transaction up and writes the next one over it. So bytes of the last transaction that may
//     have been written to are verified again; if the chain no longer holds the transaction is
//     withdrawn: its pages are reported, the position goes back to the commit before. SQLite never
//     writes to frames before the last transaction of a generation; only if that one is void are
//     they read again, and if they are too (somebody cut the file) the whole generation is
//     withdrawn and read from its start.
//
// No order of arrival makes a false commit: once a transaction has overwritten a frame, SQLite
// writes further frames (walEncodeFrame) with zero salts and checksums until it makes all of them
// anew, and the new commit frame continues only the new frames before it.
//
// Pure: no IO of its own, no clock. Not thread-safe; the bytes must not change during a scan, or
// the change counts as a write for the next scan too. Memory: 12 bytes per frame of the open
// transaction, an entry of the overlay per page in the log, and a read buffer during a scan.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "fs/capture/read_at.h"
#include "replicator/base/wal_format.h"

namespace walfs {

struct WalPage {
  uint32_t number = 0;  // From 1.
  uint32_t frame = 0;   // From 1.
  uint64_t offset = 0;  // Of the page's bytes in the log.
};

struct WalTransaction {
  uint64_t generation = 0;
  WalSalts salts;
  uint32_t page_size = 0;
  uint32_t first_frame = 0;
  uint32_t end_frame = 0;       // The commit frame.
  uint32_t database_pages = 0;  // Size of the database after the commit; never 0.
  std::vector<WalPage> pages;   // By number, each with its last version in this transaction.
};

enum class WalState {
  kEmpty,        // No header: no file content, or less than a header.
  kBadHeader,    // 32 bytes that SQLite would not accept (perhaps not arrived yet).
  kFollowing,    // The header is that of the current generation.
  kOverwritten,  // Frames of the last transaction carry other salts: a restart whose header has not
                 // arrived yet. Doubt, if it lasts.
};

struct WalScan {
  WalState state = WalState::kEmpty;
  std::vector<WalTransaction> transactions;  // In order of commit.
  bool more = false;                         // Stopped at max_bytes: scan again.
  bool new_generation = false;  // The transactions belong to a generation that began in this scan.
  bool ended_generation = false;    // The log that was followed is empty now.
  bool skipped_generation = false;  // salt1 did not count up by one: generations may be missed.
  // Pages of transactions that were reported earlier and are void: each must be looked up again (in
  // this scan's transactions, the overlay, or the database file). The database's size too.
  std::vector<uint32_t> withdrawn;
};

struct WalScanOptions {
  // No byte below this offset was written since the last scan of this follower began; 0 = not
  // known.
  uint64_t unchanged_below = 0;
  // Stop after about that much was read (at least one frame), with `more` set.
  size_t max_bytes = std::numeric_limits<size_t>::max();
};

class WalFollower {
 public:
  WalScan scan(const ReadAt& read, const WalScanOptions& options = {});

  // The current generation; all zero when none is followed.
  bool following() const { return following_; }
  uint64_t generation() const { return generation_; }  // Counts the generations seen, from 1.
  const WalHeader& header() const { return header_; }
  uint32_t page_size() const { return header_.page_size; }
  uint32_t committed_frame() const { return committed_.frame; }
  uint32_t database_pages() const { return committed_.database_pages; }  // 0: no commit yet.
  // Where the next frame behind the last commit starts.
  uint64_t committed_end() const;
  // Where the next frame behind the valid part of the open transaction starts.
  uint64_t valid_end() const;
  // Whether a log with these salts is the next generation of this one.
  bool salt1_follows(const WalSalts& previous) const {
    return header_.salts.salt1 == previous.salt1 + 1;
  }

  // The pages with a committed frame in the current generation, and the offset of their last
  // committed bytes: what lies over the database file. Numbers above database_pages() are beyond
  // the database's end.
  const std::unordered_map<uint32_t, uint64_t>& pages_in_wal() const { return overlay_; }

  // Reads a page whose bytes lie at `offset` (of the overlay or a transaction of this generation)
  // and verifies that the frame is still this generation's, by salts, page number and checksum.
  // `into` has the page size. False: it was overwritten; nothing in `into` may be used.
  bool read_page(const ReadAt& read, uint32_t page, uint64_t offset, std::span<uint8_t> into) const;

 private:
  struct Position {
    uint32_t frame = 0;  // 0 = behind the header.
    uint32_t database_pages = 0;
    WalChecksum checksum;
  };
  struct TailFrame {
    uint32_t page;
    WalChecksum checksum;
  };
  struct Undo {
    uint32_t page;
    uint64_t offset;  // 0 = was not in the overlay.
  };
  enum class Check { kValid, kForeign, kBroken };

  size_t frame_size() const { return header_.page_size + kWalFrameHeaderSize; }
  Position start_of_frames() const { return {0, 0, header_.checksum}; }
  uint32_t frames_below(uint64_t offset) const;
  bool follow_header(const ReadAt& read, WalScan& scan);
  void begin_generation(const WalHeader& header, WalScan& scan);
  void end_generation();
  Check check_frame(ByteView frame, WalChecksum& checksum) const;
  Check verify_last_transaction(const ReadAt& read) const;
  Check verify_frames(const ReadAt& read, Position from, const Position& to) const;
  void withdraw_last_transaction(WalScan& scan);
  void withdraw_generation(WalScan& scan);
  void forget_tail();
  void read_frames(const ReadAt& read, size_t max_bytes, WalScan& scan);
  bool accept_frame(ByteView frame, WalScan& scan);
  void commit(uint32_t database_pages, WalScan& scan);

  bool following_ = false;
  bool ended_ = false;  // The last generation ended with an empty log.
  // What scans have not looked at again yet, as the header or the salts kept them from it.
  uint64_t unchanged_below_ = std::numeric_limits<uint64_t>::max();
  uint64_t generation_ = 0;
  WalSalts last_salts_;
  std::array<uint8_t, kWalHeaderSize> raw_header_{};
  WalHeader header_;
  Position previous_;            // The commit before the last one, while that can be withdrawn.
  Position committed_;           // The last commit.
  std::vector<TailFrame> tail_;  // The valid frames behind it.
  std::vector<Undo> undo_;       // Takes the last transaction out of the overlay.
  std::unordered_map<uint32_t, uint64_t> overlay_;
};

}  // namespace walfs
