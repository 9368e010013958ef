// Invariants I1 and I2 on logs that SQLite writes: whatever order the bytes arrive in, the follower
// emits only what was committed, and after everything has arrived all of it.
//
// SQLite runs random statements on a real database; each call it makes on the log is recorded with
// the database's content after each statement. The calls are then replayed through a model of the
// kernel's page cache into an image of the log, which the follower scans at random moments.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <random>
#include <set>

#include "fs/capture/wal_follower.h"
#include "tests/unit/wal_builder.h"
#include "tests/unit/wal_recorder.h"

namespace walfs {
namespace {

using testing::Conditions;
using testing::Recorder;
using testing::Recording;
using testing::WalEvent;

// The database as the changes make it.
class Replica {
 public:
  explicit Replica(Bytes database, size_t page_size) : page_size_(page_size) {
    for (size_t at = 0; at < database.size(); at += page_size)
      pages_[static_cast<uint32_t>(at / page_size + 1)].assign(
          database.begin() + static_cast<long>(at),
          database.begin() + static_cast<long>(at + page_size));
    size_ = static_cast<uint32_t>(database.size() / page_size);
    begin_generation();
  }
  void apply(const WalScan& scan, const WalFollower& follower, const ReadAt& read) {
    if (scan.new_generation) begin_generation();
    for (const uint32_t page : scan.withdrawn) {
      const auto over = follower.pages_in_wal().find(page);
      if (over != follower.pages_in_wal().end()) {
        load(page, over->second, follower, read);
      } else if (base_.contains(page)) {
        pages_[page] = base_[page];
      }
    }
    if (!scan.withdrawn.empty())
      size_ = follower.database_pages() != 0 ? follower.database_pages() : base_size_;
    for (const WalTransaction& transaction : scan.transactions) {
      for (const WalPage& page : transaction.pages) load(page.number, page.offset, follower, read);
      size_ = transaction.database_pages;
    }
  }
  Bytes content() const {
    Bytes bytes;
    for (uint32_t page = 1; page <= size_; ++page) {
      const auto found = pages_.find(page);
      if (found == pages_.end()) return {};
      bytes.insert(bytes.end(), found->second.begin(), found->second.end());
    }
    return bytes;
  }

 private:
  void load(uint32_t page, uint64_t offset, const WalFollower& follower, const ReadAt& read) {
    Bytes& content = pages_[page];
    content.resize(page_size_);
    RC_ASSERT(follower.read_page(read, page, offset, content));
  }
  // A restart follows a complete checkpoint: the database file is what the replica is.
  void begin_generation() {
    base_ = pages_;
    base_size_ = size_;
  }

  size_t page_size_;
  std::map<uint32_t, Bytes> pages_;
  std::map<uint32_t, Bytes> base_;
  uint32_t size_ = 0;
  uint32_t base_size_ = 0;
};

// The kernel's cache in front of the log: what was written, and what of it has arrived.
class LogBehindCache {
 public:
  static constexpr size_t kCachePage = 4096;

  explicit LogBehindCache(bool big_endian) : big_endian_(big_endian) {}

  void write(const WalEvent& event) {
    const size_t end = event.offset + event.data.size();
    if (written_.size() < end) written_.resize(end);
    std::copy(event.data.begin(), event.data.end(),
              written_.begin() + static_cast<long>(event.offset));
    for (size_t at = event.offset / kCachePage; at * kCachePage < end; ++at) dirty_.insert(at);
  }
  // Not delayed by the cache.
  void truncate(size_t size) {
    written_.resize(size);
    arrived_.resize(std::min(arrived_.size(), size));
    touched_ = std::min<uint64_t>(touched_, size);
    std::erase_if(dirty_, [&](size_t page) { return page * kCachePage >= size; });
  }
  void flush_all() {
    while (!dirty_.empty()) flush(*dirty_.begin());
  }
  void flush_some(std::mt19937& random) {
    const std::set<size_t> dirty = dirty_;
    for (const size_t page : dirty) {
      if (random() % 3 == 0) flush(page);
    }
  }
  const Bytes& arrived() const { return image_; }
  // The lowest offset that something arrived at since the last call.
  uint64_t take_touched() {
    image_ = arrived_;
    if (big_endian_ && image_.size() >= 32 && get_be32(image_, 0) == 0x377f0682) convert();
    return std::exchange(touched_, std::numeric_limits<uint64_t>::max());
  }

 private:
  void flush(size_t page) {
    const size_t begin = page * kCachePage;
    const size_t end = std::min(written_.size(), begin + kCachePage);
    if (arrived_.size() < end) arrived_.resize(end);
    std::copy(written_.begin() + static_cast<long>(begin),
              written_.begin() + static_cast<long>(end),
              arrived_.begin() + static_cast<long>(begin));
    touched_ = std::min<uint64_t>(touched_, begin);
    dirty_.erase(page);
  }
  // Replaces the checksums by those of the other byte order as far as they are right. Only used
  // where bytes arrive in order, as it makes the rest wrong in another way.
  void convert() {
    WalFollower follower;
    follower.scan(testing::reader(arrived_));
    Bytes valid(arrived_.begin(),
                arrived_.begin() + static_cast<long>(std::max<uint64_t>(32, follower.valid_end())));
    testing::resum_wal(valid, true);
    std::copy(valid.begin(), valid.end(), image_.begin());
  }

  bool big_endian_;
  Bytes written_;
  Bytes arrived_;
  Bytes image_;
  std::set<size_t> dirty_;
  uint64_t touched_ = 0;
};

class Replay {
 public:
  Replay(const Recording& recording, const Conditions& conditions, bool in_order, uint32_t seed)
      : recording_(recording),
        conditions_(conditions),
        in_order_(in_order),
        random_(seed),
        log_(conditions.big_endian),
        replica_(recording.marks.front().database, static_cast<size_t>(conditions.page_size)) {}

  void run() {
    size_t at = 0;
    for (size_t mark = 0; mark < recording_.marks.size(); ++mark) {
      for (; at < recording_.marks[mark].events; ++at) {
        apply(recording_.events[at]);
        if (mark == 0) continue;
        if (scans_now()) {
          scan();
          check_is_committed(mark);
        }
      }
      const bool is_last = mark + 1 == recording_.marks.size();
      if (mark == 0 || is_last || random_() % 2 == 0) {
        log_.flush_all();
        scan();
        RC_ASSERT(replica_.content() == recording_.marks[mark].database);
        settled_ = mark;
      }
    }
  }
  size_t withdrawn() const { return withdrawn_; }

 private:
  void apply(const WalEvent& event) {
    switch (event.kind) {
      case WalEvent::Kind::kWrite:
        log_.write(event);
        if (in_order_) {
          log_.flush_all();
        } else {
          log_.flush_some(random_);
        }
        break;
      case WalEvent::Kind::kSync:
        log_.flush_all();
        scan();
        break;
      case WalEvent::Kind::kTruncate:
      case WalEvent::Kind::kDelete:
        scan();
        log_.truncate(event.kind == WalEvent::Kind::kDelete ? 0 : event.offset);
        break;
    }
  }
  // Making the checksums anew is slow.
  bool scans_now() {
    if (conditions_.big_endian) return random_() % 16 == 0;
    return in_order_ || random_() % 3 == 0;
  }
  void scan() {
    WalScanOptions options;
    const uint64_t touched = log_.take_touched();
    // Sometimes a caller knows nothing, and sometimes it reads in slices.
    options.unchanged_below = random_() % 4 == 0 || conditions_.big_endian ? 0 : touched;
    if (random_() % 2 == 0) options.max_bytes = 1 + random_() % 5000;
    for (bool more = true; more;) {
      const ReadAt read = testing::reader(log_.arrived());
      const WalScan found = follower_.scan(read, options);
      replica_.apply(found, follower_, read);
      withdrawn_ += found.withdrawn.size();
      changed_ = changed_ || !found.withdrawn.empty() || !found.transactions.empty();
      RC_ASSERT(!found.skipped_generation);
      more = found.more;
      options.unchanged_below = std::numeric_limits<uint64_t>::max();
    }
  }
  // I1: nothing but a state that SQLite committed, from the last one known to have arrived on. A
  // transaction that spilled can be seen with its old checksums when its pages arrive out of order
  // (rule 4 of the follower); that shows only in the end.
  void check_is_committed(size_t next_mark) {
    if ((!in_order_ && conditions_.spills) || !changed_) return;
    changed_ = false;
    const Bytes content = replica_.content();
    bool found = false;
    for (size_t mark = settled_; mark <= next_mark && !found; ++mark)
      found = content == recording_.marks[mark].database;
    RC_ASSERT(found);
  }

  const Recording& recording_;
  Conditions conditions_;
  bool in_order_;
  std::mt19937 random_;
  LogBehindCache log_;
  WalFollower follower_;
  Replica replica_;
  size_t settled_ = 0;
  bool changed_ = false;
  size_t withdrawn_ = 0;
};

Conditions any_conditions() {
  Conditions conditions;
  conditions.page_size = *rc::gen::element(512, 1024, 4096);
  conditions.full = *rc::gen::arbitrary<bool>();
  conditions.powersafe = *rc::gen::arbitrary<bool>();
  conditions.autocheckpoint = *rc::gen::element(0, 0, 10);
  return conditions;
}

Recording record(const Conditions& conditions) {
  const auto steps =
      *rc::gen::resize(30, rc::gen::container<std::vector<uint8_t>>(rc::gen::arbitrary<uint8_t>()));
  Recorder recorder(conditions, *rc::gen::arbitrary<uint32_t>());
  for (const uint8_t step : steps) recorder.step(step);
  return recorder.take();
}

// The properties below would prove little if SQLite did not do this in them.
TEST(CaptureInvariants, SpilledTransactionsOverwriteFramesAndUnsafeSectorsArePadded) {
  Conditions conditions;
  conditions.spills = conditions.full = true;
  conditions.powersafe = false;
  Recorder recorder(conditions, 1);
  for (const uint8_t step : {2, 2, 6, 6}) recorder.step(step);
  const Recording recording = recorder.take();
  uint64_t end = 0;
  size_t overwritten = 0;
  size_t padding = 0;
  Bytes last_header;
  for (const WalEvent& event : recording.events) {
    if (event.kind != WalEvent::Kind::kWrite) continue;
    if (event.offset + event.data.size() <= end) ++overwritten;
    end = std::max(end, event.offset + event.data.size());
    if (event.data.size() != kWalFrameHeaderSize) continue;
    const bool repeats =
        !last_header.empty() && get_be32(event.data, 4) != 0 &&
        std::equal(event.data.begin(), event.data.begin() + 8, last_header.begin());
    if (repeats) ++padding;
    last_header = event.data;
  }
  EXPECT_GT(overwritten, 10U);
  EXPECT_GT(padding, 10U);
}

TEST(CaptureInvariants, I1I2AfterEveryWriteThatArrivesInOrder) {
  EXPECT_TRUE(rc::check("in order", [] {
    Conditions conditions = any_conditions();
    conditions.spills = *rc::gen::arbitrary<bool>();
    const Recording recording = record(conditions);
    Replay replay(recording, conditions, true, *rc::gen::arbitrary<uint32_t>());
    replay.run();
    RC_ASSERT(replay.withdrawn() == 0U);
  }));
}

TEST(CaptureInvariants, I1I2WithPagesThatArriveInAnyOrder) {
  EXPECT_TRUE(rc::check("any order", [] {
    const Conditions conditions = any_conditions();
    const Recording recording = record(conditions);
    Replay(recording, conditions, false, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

TEST(CaptureInvariants, I2WithSpilledPagesThatArriveInAnyOrder) {
  EXPECT_TRUE(rc::check("spilled, any order", [] {
    Conditions conditions = any_conditions();
    conditions.spills = true;
    const Recording recording = record(conditions);
    Replay(recording, conditions, false, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

TEST(CaptureInvariants, I1I2WithChecksumsInTheOtherByteOrder) {
  EXPECT_TRUE(rc::check("big-endian", [] {
    Conditions conditions = any_conditions();
    conditions.big_endian = true;
    const Recording recording = record(conditions);
    Replay(recording, conditions, true, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

}  // namespace
}  // namespace walfs
