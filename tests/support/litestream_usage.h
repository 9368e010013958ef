// What Litestream asks of S3 for one database and what it stores there, with its defaults: a model
// that is computed and not run, from the commits of each second.
//
// Where its sources leave something to the instant at which its timers fire, the model takes what
// costs less. Neither version is restarted in the year, no request fails, and the database's log is
// one that can always be checkpointed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "replicator/base/bytes.h"
#include "tests/support/store_usage.h"

namespace walfs::test {

// Of all its uploads that are larger: both versions leave it to the AWS library.
inline constexpr uint64_t kLitestreamPartSize = uint64_t{5} << 20;

struct WrittenPage {
  uint64_t page = 0;
  Bytes content;
};

// Both versions checkpoint the database's log: with a commit that comes a minute or more after the
// checkpoint before, or once the log has 1000 pages. Each checkpoint is followed by a write to a
// table of Litestream's own, which has to be uploaded like any other.
class LitestreamCheckpoints {
 public:
  // Whether there is one in a second with so many written pages.
  bool is_due(int64_t second, uint64_t pages);

 private:
  int64_t checkpointed_ = 0;
  uint64_t pages_ = 0;
};

// Version 0.3.13. In each second with commits their frames of the write-ahead log (a page and 24
// bytes each; every commit's, even if they are of the same page) are one object, an LZ4 frame. A
// checkpoint begins a new log, which is one more object. Once an hour it looks: if the newest
// snapshot is older than 24 hours it uploads another one, the whole database as one LZ4 frame, and
// removes all that was before. A snapshot comes a moment after its hour, and so the next one 25
// hours later. Each look lists the generations twice, the snapshots twice and all pieces of the
// log.
class LitestreamWal {
 public:
  using ReadDatabase = std::function<Bytes()>;
  LitestreamWal(UsageMeter& meter, ReadDatabase database, int64_t second);
  // Of the second, which follows all before; there may be none.
  void pass(int64_t second, const std::vector<WrittenPage>& pages);

 private:
  void look(int64_t second);
  void put_snapshot(int64_t second);
  void put_piece(int64_t second, uint64_t size);

  UsageMeter& meter_;
  const ReadDatabase database_;
  LitestreamCheckpoints checkpoints_;
  std::vector<uint64_t> pieces_;  // Sizes.
  uint64_t snapshot_size_ = 0;
  int64_t snapshot_second_ = 0;
};

// Version 0.5.16. In each second with commits the newest content of the pages that they have
// written is one LTX file of level 0: 100 bytes, 10 and an LZ4 block for each page, an index, 16
// bytes. A checkpoint is followed by another one.
//
// Levels 1, 2 and 3 are made at every full 30 seconds, 5 minutes and hour, out of what the level
// below has got since; level 0 is read from the local disk, others with one GET a file. Each time
// the level below is listed, from its beginning, as long as its last transaction comes behind the
// first one of the newest file of the level: also if nothing is new. Every 15 seconds, and after
// each file of level 1, levels 1 and 0 are listed, and what level 1 has and is older than 5 minutes
// is removed from level 0, but not the last one of all.
//
// At midnight (UTC), if there is a new transaction, a snapshot is uploaded, an LTX file with all
// pages; whether or not, snapshots of the day before, and files of levels 1 to 3 that end before
// the oldest snapshot that is left, are removed after a listing of each of these levels, but not
// the last one of a level.
class LitestreamLtx {
 public:
  using SizePages = std::function<std::vector<uint64_t>()>;  // Of all pages, as LZ4 blocks.
  LitestreamLtx(UsageMeter& meter, SizePages database, int64_t second);
  void pass(int64_t second, const std::vector<WrittenPage>& pages);

 private:
  using Pages = std::map<uint64_t, uint64_t>;  // LZ4 blocks, by page.
  struct File {
    uint64_t first = 0;  // Transactions.
    uint64_t last = 0;
    int64_t second = 0;
    uint64_t size = 0;
    Pages pages;  // While the next level may need them.
  };
  static uint64_t file_size(const Pages& pages);
  void put(std::vector<File>& level, File file);
  void list(const std::vector<File>& level);
  void add_transaction(int64_t second, Pages pages);
  void compact(size_t level, int64_t second);
  void trim_level_0(int64_t second);
  void take_snapshot(int64_t second);
  template <typename IsOld>
  void remove_old(std::vector<File>& level, int64_t second, const IsOld& is_old);

  UsageMeter& meter_;
  const SizePages database_;
  LitestreamCheckpoints checkpoints_;
  uint64_t last_ = 0;  // Transaction.
  std::vector<std::vector<File>> levels_{4};
  std::vector<File> snapshots_;
};

uint64_t lz4_block_size(ByteView content);

}  // namespace walfs::test
