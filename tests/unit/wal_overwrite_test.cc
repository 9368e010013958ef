#include "fs/capture/wal_overwrite.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "replicator/base/wal_format.h"
#include "tests/unit/wal_builder.h"

namespace walfs::testing {
namespace {

constexpr uint32_t kPage = 512;

ReadAt reader(const Bytes& file) {
  return [&file](uint64_t offset, std::span<uint8_t> into) -> size_t {
    if (offset >= file.size()) return 0;
    const size_t size = std::min<size_t>(into.size(), file.size() - offset);
    std::copy_n(file.begin() + static_cast<std::ptrdiff_t>(offset), size, into.begin());
    return size;
  };
}

// A log of three frames in front of what a longer generation before has left.
class WalOverwrite : public ::testing::Test {
 protected:
  WalOverwrite() {
    WalBuilder before(kPage, 99, 1);
    for (uint32_t page = 1; page <= 8; ++page) before.frame(page, page == 8 ? 8 : 0, 0xee);
    WalBuilder now(kPage, 100, 7);
    now.frame(1, 0, 0x11).frame(2, 2, 0x22).frame(3, 3, 0x33);
    frames_ = now.file();
    log_ = before.file();
    std::copy(frames_.begin(), frames_.end(), log_.begin());
    next_ = WalBuilder(now).frame(4, 4, 0x44).file();
  }
  // Writes what `file` has in [begin, end).
  bool destroys(const Bytes& file, uint64_t begin, uint64_t end) const {
    return wal_write_destroys(reader(log_), begin, ByteView(file).subspan(begin, end - begin));
  }
  Bytes log_, frames_, next_;
};

TEST_F(WalOverwrite, TheNextFrameOverOldOnesDestroysNothing) {
  EXPECT_FALSE(destroys(next_, wal_frame_offset(4, kPage), next_.size()));
}

TEST_F(WalOverwrite, NorDoesOneThatComesWithThePagesThatHoldTheFrameBefore) {
  EXPECT_FALSE(destroys(next_, 0, next_.size()));
  EXPECT_FALSE(destroys(next_, wal_frame_offset(3, kPage) + 100, next_.size()));
}

TEST_F(WalOverwrite, WritingTheSameAgainDestroysNothing) {
  EXPECT_FALSE(destroys(frames_, 0, frames_.size()));
}

TEST_F(WalOverwrite, AppendingDestroysNothing) {
  log_ = frames_;
  EXPECT_FALSE(destroys(next_, wal_frame_offset(3, kPage), next_.size()));
  EXPECT_FALSE(destroys(next_, wal_frame_offset(4, kPage), next_.size()));
}

// I3: what was committed in a log is known before it is overwritten.
TEST_F(WalOverwrite, AnyOtherByteOfTheGenerationsFramesDoes) {
  for (uint64_t at = 0; at < frames_.size(); ++at) {
    Bytes changed = frames_;
    changed[at] ^= 1;
    EXPECT_TRUE(destroys(changed, at, at + 1)) << at;
    EXPECT_TRUE(destroys(changed, 0, changed.size())) << at;
  }
}

TEST_F(WalOverwrite, ANewHeaderDoes) {
  const Bytes restarted = WalBuilder(kPage, 101, 3).frame(1, 1, 0x55).file();
  EXPECT_TRUE(destroys(restarted, 0, restarted.size()));
  EXPECT_TRUE(destroys(restarted, wal_frame_offset(1, kPage), restarted.size()))
      << "pages may arrive before the one with the header";
}

TEST_F(WalOverwrite, InALogWithoutAHeaderNothingIsCommitted) {
  log_[0] ^= 1;
  EXPECT_FALSE(destroys(next_, 0, next_.size()));
  log_.clear();
  EXPECT_FALSE(destroys(next_, 0, next_.size()));
}

}  // namespace
}  // namespace walfs::testing
