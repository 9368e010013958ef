// What counts as a commit in a write-ahead log: invariants I1 (only what is committed) and I2
// (everything that is), on logs built byte by byte. Logs made by SQLite:
// capture_invariants_test.cc.
#include "fs/capture/wal_follower.h"

#include <gtest/gtest.h>

#include "tests/unit/wal_builder.h"

namespace walfs {
namespace {

using testing::reader;
using testing::WalBuilder;

constexpr uint64_t kNothingWritten = std::numeric_limits<uint64_t>::max();

// "first-end/size: page@frame ..." of each transaction, joined by "; ".
std::string text_of(const WalScan& scan) {
  std::string text;
  for (const WalTransaction& t : scan.transactions) {
    if (!text.empty()) text += "; ";
    text += std::to_string(t.first_frame) + "-" + std::to_string(t.end_frame) + "/" +
            std::to_string(t.database_pages) + ":";
    for (const WalPage& page : t.pages)
      text += " " + std::to_string(page.number) + "@" + std::to_string(page.frame);
  }
  return text;
}

std::string scan_text(WalFollower& follower, const Bytes& file, WalScanOptions options = {}) {
  return text_of(follower.scan(reader(file), options));
}

TEST(WalFollower, EmitsEachCommittedTransactionOnce) {
  WalBuilder wal;
  wal.frame(1, 0, 1).frame(2, 2, 2).frame(2, 2, 3);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "1-2/2: 1@1 2@2; 3-3/2: 2@3");
  EXPECT_EQ(scan_text(follower, wal.file()), "");
  wal.frame(3, 3, 4);
  EXPECT_EQ(scan_text(follower, wal.file()), "4-4/3: 3@4");
  EXPECT_EQ(follower.committed_frame(), 4U);
  EXPECT_EQ(follower.database_pages(), 3U);
  EXPECT_EQ(follower.committed_end(), wal.file().size());
}

TEST(WalFollower, KeepsOnlyTheLastVersionOfAPageInATransaction) {
  WalBuilder wal;
  wal.frame(5, 0, 1).frame(2, 0, 2).frame(5, 0, 3).frame(2, 5, 4);
  WalFollower follower;
  const WalScan scan = follower.scan(reader(wal.file()));
  EXPECT_EQ(text_of(scan), "1-4/5: 2@4 5@3");
  EXPECT_EQ(scan.transactions[0].pages[0].offset, wal.offset(4) + 24);
}

TEST(WalFollower, HoldsBackAnUnfinishedTransaction) {
  WalBuilder wal;
  wal.frame(1, 1, 1).frame(2, 0, 2).frame(3, 0, 3);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "1-1/1: 1@1");
  EXPECT_EQ(follower.valid_end(), wal.file().size());
  wal.frame(4, 4, 4);
  EXPECT_EQ(scan_text(follower, wal.file()), "2-4/4: 2@2 3@3 4@4");
}

TEST(WalFollower, IgnoresAFrameWithAnotherSalt) {
  WalBuilder wal;
  wal.frame(1, 1, 1).frame(2, 2, 2);
  wal.file()[wal.offset(2) + 15] ^= 1;
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "1-1/1: 1@1");
}

TEST(WalFollower, IgnoresAFrameForPageZero) {
  WalBuilder wal;
  wal.frame(1, 1, 1).frame(0, 2, 2);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "1-1/1: 1@1");
}

TEST(WalFollower, EmitsNothingForALogWithAnySingleByteBroken) {
  WalBuilder good;
  good.frame(1, 0, 1).frame(2, 2, 2);
  for (size_t at = 0; at < good.file().size(); ++at) {
    Bytes bad = good.file();
    bad[at] ^= 0x40;
    // The checkpoint sequence number is covered by the header's checksum like everything else.
    WalFollower follower;
    EXPECT_EQ(scan_text(follower, bad), "") << "byte " << at;
  }
}

TEST(WalFollower, EmitsNothingForALogCutAnywhereBeforeItsCommit) {
  WalBuilder wal;
  wal.frame(1, 0, 1).frame(2, 2, 2);
  for (size_t size = 0; size < wal.file().size(); ++size) {
    const Bytes cut(wal.file().begin(), wal.file().begin() + static_cast<long>(size));
    WalFollower follower;
    EXPECT_EQ(scan_text(follower, cut), "") << "size " << size;
    EXPECT_EQ(scan_text(follower, wal.file()), "1-2/2: 1@1 2@2") << "size " << size;
  }
}

TEST(WalFollower, AcceptsEveryPageSizeAndBothChecksumByteOrders) {
  for (uint32_t page_size = 512; page_size <= 65536; page_size *= 2) {
    for (const bool big_endian : {false, true}) {
      WalBuilder wal(page_size, 1, 2, big_endian);
      wal.frame(1, 0, 3).frame(2, 2, 4);
      WalFollower follower;
      EXPECT_EQ(scan_text(follower, wal.file()), "1-2/2: 1@1 2@2") << page_size;
      EXPECT_EQ(follower.page_size(), page_size);
      EXPECT_EQ(follower.header().big_endian_checksum, big_endian);
    }
  }
}

TEST(WalFollower, RefusesPageSizesThatSqliteRefuses) {
  for (const uint32_t page_size : {0U, 256U, 513U, 131072U}) {
    WalBuilder wal(512);
    testing::put_be32(wal.file(), 8, page_size);
    if (page_size != 0) wal.resum();
    WalFollower follower;
    EXPECT_EQ(follower.scan(reader(wal.file())).state, WalState::kBadHeader) << page_size;
  }
}

// Rule 2: a page that is spilled twice overwrites its frame.

TEST(WalFollower, DoesNotEmitWhileAnOverwrittenFrameHasItsOldChecksum) {
  WalBuilder wal;
  wal.frame(1, 1, 1).frame(2, 0, 2).frame(3, 0, 3).frame(4, 0, 4);
  for (uint32_t overwritten = 2; overwritten <= 4; ++overwritten) {
    WalBuilder now = wal;
    WalFollower follower;
    EXPECT_EQ(scan_text(follower, now.file()), "1-1/1: 1@1");
    now.frame(5, 5, 5);  // Continues the checksums as they were.
    now.overwrite_page(overwritten, 9);
    const WalScanOptions options{.unchanged_below = now.offset(overwritten)};
    EXPECT_EQ(scan_text(follower, now.file(), options), "") << overwritten;
    now.resum();
    EXPECT_EQ(scan_text(follower, now.file(), options), "2-5/5: 2@2 3@3 4@4 5@5") << overwritten;
  }
}

TEST(WalFollower, SeesACommitThatIsShorterThanTheTransactionRolledBackBeforeIt) {
  // The first frame is written again with the same bytes; only what was written tells.
  WalBuilder rolled_back;
  rolled_back.frame(1, 1, 1).frame(2, 0, 2).frame(3, 0, 3).frame(4, 0, 4);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, rolled_back.file()), "1-1/1: 1@1");
  WalBuilder next;
  next.frame(1, 1, 1).frame(2, 0, 2).frame(3, 3, 7);
  Bytes file = rolled_back.file();
  std::copy(next.file().begin(), next.file().end(), file.begin());
  const WalScanOptions options{.unchanged_below = rolled_back.offset(2)};
  EXPECT_EQ(scan_text(follower, file, options), "2-3/3: 2@2 3@3");
}

TEST(WalFollower, ReadsOnlyWhatWasWrittenOfALargeOpenTransaction) {
  WalBuilder wal;
  for (uint32_t page = 1; page <= 200; ++page) wal.frame(page, 0, 1);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "");
  const size_t before = wal.file().size();
  wal.frame(201, 201, 1);
  size_t read = 0;
  const WalScan scan = follower.scan(reader(wal.file(), &read), {.unchanged_below = before - 100});
  EXPECT_EQ(scan.transactions.size(), 1U);
  EXPECT_LE(read, 4U * 536);
}

// Rule 3: restarts.

TEST(WalFollower, BeginsANewGenerationWithNewSalts) {
  WalBuilder first(512, 100, 7);
  first.frame(1, 0, 1).frame(2, 2, 2).frame(3, 3, 3);
  WalFollower follower;
  EXPECT_TRUE(follower.scan(reader(first.file())).new_generation);
  WalBuilder second(512, 101, 8);
  second.frame(2, 3, 9);
  Bytes file = first.file();
  std::copy(second.file().begin(), second.file().end(), file.begin());
  const WalScan scan = follower.scan(reader(file));
  EXPECT_EQ(text_of(scan), "1-1/3: 2@1");
  EXPECT_TRUE(scan.new_generation);
  EXPECT_FALSE(scan.skipped_generation);
  EXPECT_EQ(follower.generation(), 2U);
  EXPECT_EQ(follower.pages_in_wal().size(), 1U);
  EXPECT_TRUE(follower.salt1_follows({100, 7}));
}

TEST(WalFollower, WaitsForTheHeaderOfARestartWhosePagesArriveFirst) {
  WalBuilder first(512, 100, 7);
  first.frame(1, 1, 1).frame(2, 0, 2).frame(2, 2, 2);
  WalFollower follower;
  ASSERT_EQ(scan_text(follower, first.file()), "1-1/1: 1@1; 2-3/2: 2@3");
  WalBuilder second(512, 101, 8);
  second.frame(1, 0, 5).frame(2, 0, 6).frame(3, 3, 7);
  Bytes file = first.file();
  std::copy(second.file().begin() + 32, second.file().end(), file.begin() + 32);
  const WalScan waiting = follower.scan(reader(file), {.unchanged_below = 32});
  EXPECT_EQ(waiting.state, WalState::kOverwritten);
  EXPECT_TRUE(waiting.transactions.empty());
  EXPECT_TRUE(waiting.withdrawn.empty());
  // What the earlier scan was told of writes still holds for the next one.
  EXPECT_EQ(follower.scan(reader(file), {.unchanged_below = kNothingWritten}).state,
            WalState::kOverwritten);
  EXPECT_EQ(scan_text(follower, second.file()), "1-3/3: 1@1 2@2 3@3");
}

TEST(WalFollower, ReportsThatAGenerationWasSkipped) {
  WalBuilder first(512, 100, 7);
  first.frame(1, 1, 1);
  WalBuilder third(512, 102, 9);
  third.frame(1, 1, 3);
  WalFollower follower;
  EXPECT_FALSE(follower.scan(reader(first.file())).skipped_generation);
  EXPECT_TRUE(follower.scan(reader(third.file())).skipped_generation);
}

TEST(WalFollower, EndsTheGenerationWhenTheLogIsEmptied) {
  WalBuilder wal;
  wal.frame(1, 1, 1);
  WalFollower follower;
  EXPECT_FALSE(follower.scan(reader(wal.file())).ended_generation);
  for (const size_t size : {size_t{0}, size_t{31}}) {
    const WalScan scan = follower.scan(reader(Bytes(size)));
    EXPECT_EQ(scan.state, WalState::kEmpty);
    EXPECT_EQ(scan.ended_generation, size == 0);
    EXPECT_FALSE(follower.following());
    EXPECT_TRUE(follower.pages_in_wal().empty());
  }
  // A log that is made anew has random salts: no sign of anything missed.
  WalBuilder anew(512, 0x80000000, 9);
  EXPECT_FALSE(follower.scan(reader(anew.file())).skipped_generation);
  EXPECT_EQ(follower.generation(), 2U);
}

TEST(WalFollower, CountsAnEmptiedLogThatIsTwoRestartsOnAsSkipped) {
  WalBuilder first(512, 0xffffffff, 7);
  WalFollower follower;
  follower.scan(reader(first.file()));
  follower.scan(reader(Bytes{}));
  EXPECT_FALSE(WalFollower(follower).scan(reader(WalBuilder(512, 0, 8).file())).skipped_generation);
  EXPECT_TRUE(WalFollower(follower).scan(reader(WalBuilder(512, 1, 8).file())).skipped_generation);
}

// Rule 4: the last commit can turn out to be void.

TEST(WalFollower, WithdrawsACommitThatSqliteWritesAnotherTransactionOver) {
  WalBuilder given_up;
  given_up.frame(1, 1, 1).frame(2, 2, 2).frame(3, 0, 3).frame(2, 0, 3).frame(4, 4, 4);
  WalFollower follower;
  follower.scan(reader(given_up.file()));
  WalBuilder next;
  next.frame(1, 1, 1).frame(2, 2, 2).frame(3, 3, 8);
  Bytes file = given_up.file();
  std::copy(next.file().begin(), next.file().end(), file.begin());
  const WalScan scan = follower.scan(reader(file), {.unchanged_below = given_up.offset(3)});
  EXPECT_EQ(text_of(scan), "3-3/3: 3@3");
  EXPECT_EQ(scan.withdrawn, (std::vector<uint32_t>{2, 3, 4}));
  const auto& overlay = follower.pages_in_wal();
  EXPECT_EQ(overlay.at(2), given_up.offset(2) + 24);
  EXPECT_EQ(overlay.at(3), given_up.offset(3) + 24);
  EXPECT_FALSE(overlay.contains(4));
}

TEST(WalFollower, ForgetsTheOpenFramesBehindACommitThatItWithdraws) {
  WalBuilder given_up;
  given_up.frame(1, 1, 1).frame(2, 0, 2).frame(3, 0, 3).frame(4, 4, 4).frame(5, 0, 5);
  WalFollower follower;
  ASSERT_EQ(scan_text(follower, given_up.file()), "1-1/1: 1@1; 2-4/4: 2@2 3@3 4@4");
  WalBuilder next;
  next.frame(1, 1, 1).frame(2, 0, 2).frame(3, 0, 3).frame(4, 4, 9).frame(5, 0, 5);
  const WalScan scan = follower.scan(reader(next.file()), {.unchanged_below = next.offset(4)});
  EXPECT_EQ(text_of(scan), "2-4/4: 2@2 3@3 4@4");
  EXPECT_EQ(follower.valid_end(), next.file().size());
}

TEST(WalFollower, WithdrawsTheGenerationWhenTheLogWasCutWithinIt) {
  WalBuilder whole;
  whole.frame(1, 1, 1).frame(2, 2, 2).frame(3, 3, 3).frame(4, 4, 4);
  for (uint32_t kept = 0; kept < 4; ++kept) {
    WalFollower follower;
    follower.scan(reader(whole.file()));
    WalBuilder cut = whole;
    cut.cut(kept);
    const WalScan scan = follower.scan(reader(cut.file()));
    EXPECT_TRUE(std::ranges::is_sorted(scan.withdrawn));
    EXPECT_EQ(scan.withdrawn.back(), 4U);
    EXPECT_EQ(follower.committed_frame(), kept);
    EXPECT_EQ(follower.pages_in_wal().size(), kept);
    EXPECT_EQ(follower.database_pages(), kept);
  }
}

TEST(WalFollower, DoesNotReadTheLastTransactionAgainWhenNothingWasWritten) {
  WalBuilder wal;
  for (uint32_t page = 1; page <= 200; ++page) wal.frame(page, page == 200 ? 200 : 0, 1);
  WalFollower follower;
  follower.scan(reader(wal.file()));
  size_t read = 0;
  follower.scan(reader(wal.file(), &read), {.unchanged_below = kNothingWritten});
  EXPECT_EQ(read, 32U);
}

// Reading in slices.

TEST(WalFollower, FindsTheSameTransactionsInSlicesAsAtOnce) {
  WalBuilder wal;
  for (uint32_t i = 1; i <= 60; ++i) wal.frame(i % 7 + 1, i % 4 == 0 ? 9 : 0, 1);
  WalFollower at_once;
  const std::string expected = scan_text(at_once, wal.file());
  for (const size_t max_bytes : {size_t{1}, size_t{536}, size_t{1700}, size_t{20000}}) {
    WalFollower follower;
    std::string text;
    for (bool more = true; more;) {
      const WalScan scan = follower.scan(
          reader(wal.file()), {.unchanged_below = kNothingWritten, .max_bytes = max_bytes});
      if (!text.empty() && !scan.transactions.empty()) text += "; ";
      text += text_of(scan);
      more = scan.more;
    }
    EXPECT_EQ(text, expected) << max_bytes;
  }
}

TEST(WalFollower, EmitsTheCopiesOfACommitFrameThatPadASector) {
  WalBuilder wal;
  wal.frame(1, 0, 1).frame(2, 2, 2).frame(2, 2, 2).frame(2, 2, 2);
  WalFollower follower;
  EXPECT_EQ(scan_text(follower, wal.file()), "1-2/2: 1@1 2@2; 3-3/2: 2@3; 4-4/2: 2@4");
}

TEST(WalFollower, ReadsAPageOnlyWhileItsFrameIsIntact) {
  WalBuilder wal;
  wal.frame(1, 0, 1).frame(2, 2, 2);
  WalFollower follower;
  follower.scan(reader(wal.file()));
  for (const uint32_t page : {1U, 2U}) {
    const uint64_t offset = follower.pages_in_wal().at(page);
    Bytes content(512);
    EXPECT_TRUE(follower.read_page(reader(wal.file()), page, offset, content));
    EXPECT_EQ(content, Bytes(512, static_cast<uint8_t>(page)));
    EXPECT_FALSE(follower.read_page(reader(wal.file()), page + 1, offset, content));
    EXPECT_FALSE(follower.read_page(reader(wal.file()), page, offset + 8, content));
    WalBuilder torn = wal;
    torn.file()[offset + 511] ^= 1;
    EXPECT_FALSE(follower.read_page(reader(torn.file()), page, offset, content));
    WalBuilder restarted(512, 101, 8);
    restarted.frame(1, 0, 1).frame(2, 2, 2);
    EXPECT_FALSE(follower.read_page(reader(restarted.file()), page, offset, content));
  }
}

}  // namespace
}  // namespace walfs
