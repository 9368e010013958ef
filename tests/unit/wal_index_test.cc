#include "fs/capture/wal_index.h"

#include <gtest/gtest.h>

#include "fs/capture/wal_follower.h"
#include "tests/unit/sqlite_directory.h"
#include "tests/unit/wal_builder.h"

namespace walfs {
namespace {

class WalIndex : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    directory_.open();
    directory_.exec("PRAGMA page_size=" + std::to_string(GetParam()) +
                    "; PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  }
  testing::SqliteDirectory directory_;
};

TEST_P(WalIndex, AgreesWithTheLogThatSqliteWrote) {
  for (int i = 0; i < 4; ++i) {
    directory_.exec("INSERT INTO t VALUES(randomblob(100))");
    if (i == 2) directory_.exec("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES(2)");
    const Bytes wal = directory_.read("x.db-wal");
    WalFollower follower;
    follower.scan(testing::reader(wal));
    const auto index = parse_wal_index_header(directory_.read("x.db-shm"));
    ASSERT_TRUE(index.has_value());
    EXPECT_EQ(index->last_frame, follower.committed_frame());
    EXPECT_EQ(index->database_pages, follower.database_pages());
    EXPECT_EQ(index->salts, follower.header().salts);
    EXPECT_EQ(index->page_size, follower.page_size());
    EXPECT_EQ(index->big_endian_checksum, follower.header().big_endian_checksum);
    const size_t frame = wal_frame_offset(index->last_frame, index->page_size);
    EXPECT_EQ(index->frame_checksum, parse_wal_frame_header(ByteView(wal).subspan(frame)).checksum);
  }
}

TEST_P(WalIndex, IsRefusedWithAnyByteChanged) {
  Bytes good = directory_.read("x.db-shm");
  ASSERT_TRUE(parse_wal_index_header(good).has_value());
  good.resize(kWalIndexHeaderSize);
  EXPECT_FALSE(parse_wal_index_header(ByteView(good).first(95)).has_value());
  for (size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= 0x10;
    EXPECT_FALSE(parse_wal_index_header(bad).has_value()) << "one copy, byte " << at;
  }
  for (size_t at = 0; at < good.size() / 2; ++at) {
    Bytes bad = good;
    bad[at] ^= 0x10;
    bad[at + 48] ^= 0x10;
    EXPECT_FALSE(parse_wal_index_header(bad).has_value()) << "both copies, byte " << at;
  }
  EXPECT_FALSE(parse_wal_index_header(Bytes(kWalIndexHeaderSize)).has_value());
}

INSTANTIATE_TEST_SUITE_P(PageSizes, WalIndex, ::testing::Values(512, 4096, 65536));

}  // namespace
}  // namespace walfs
