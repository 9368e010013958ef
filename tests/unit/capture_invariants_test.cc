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
using testing::Mark;
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
  }
  void apply(const WalScan& scan, const WalFollower& follower, const ReadAt& read) {
    for (const WalTransaction& transaction : scan.transactions) {
      for (const WalPage& page : transaction.pages) load(page.number, page.offset, follower, read);
      size_ = transaction.database_pages;
    }
  }
  // Nothing when a page could not be had.
  Bytes content() const {
    if (unreadable_) return {};
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
    if (!follower.read_page(read, page, offset, content)) unreadable_ = true;
  }
  size_t page_size_;
  std::map<uint32_t, Bytes> pages_;
  uint32_t size_ = 0;
  bool unreadable_ = false;
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
    held_.clear();
    while (!dirty_.empty()) flush(*dirty_.begin());
  }
  // Most dirty pages soon, some not before everything is flushed.
  void flush_some(std::mt19937& random) {
    const std::set<size_t> dirty = dirty_;
    for (const size_t page : dirty) {
      if (held_.contains(page)) continue;
      if (random() % 2 == 0) flush(page);
      if (random() % 16 == 0) held_.insert(page);
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
  std::set<size_t> held_;
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
      changed_ = changed_ || !found.transactions.empty();
      RC_ASSERT(found.withdrawn.empty());
      RC_ASSERT(!found.skipped_generation);
      more = found.more;
      options.unchanged_below = std::numeric_limits<uint64_t>::max();
    }
  }
  // I1: nothing but a state that SQLite committed, from the last one known to have arrived on.
  void check_is_committed(size_t next_mark) {
    if (!changed_) return;
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
};

Conditions any_conditions() {
  Conditions conditions;
  conditions.spills = *rc::gen::arbitrary<bool>();
  conditions.page_size = *rc::gen::element(512, 1024, 4096);
  conditions.full = *rc::gen::arbitrary<bool>();
  conditions.powersafe = *rc::gen::arbitrary<bool>();
  conditions.autocheckpoint = *rc::gen::element(0, 0, 10);
  return conditions;
}

Recording record(const Conditions& conditions, int steps_max = 25) {
  const auto steps = *rc::gen::resize(
      steps_max, rc::gen::container<std::vector<uint8_t>>(rc::gen::arbitrary<uint8_t>()));
  Recorder recorder(conditions, *rc::gen::arbitrary<uint32_t>());
  for (const uint8_t step : steps) recorder.step(step);
  return recorder.take();
}

void write_to(Bytes& image, const WalEvent& event) {
  if (image.size() < event.offset + event.data.size())
    image.resize(event.offset + event.data.size());
  std::copy(event.data.begin(), event.data.end(), image.begin() + static_cast<long>(event.offset));
}

// At every moment of a transaction that spills, with what it overwrites in place arriving last. The
// commit frame is there before the frames that it depends on.
TEST(CaptureInvariants, I1I2WhenWhatATransactionOverwritesArrivesLast) {
  Conditions conditions;
  conditions.spills = true;
  Recorder recorder(conditions, 1);
  for (const uint8_t step : {2, 2, 6}) recorder.step(step);
  const Recording recording = recorder.take();
  const Mark& before = recording.marks[2];
  const Mark& after = recording.marks[3];
  Bytes start;
  for (size_t at = 0; at < before.events; ++at) write_to(start, recording.events[at]);
  Bytes whole = start;
  for (size_t at = before.events; at < after.events; ++at) write_to(whole, recording.events[at]);

  Bytes late = start;
  for (size_t at = before.events; at < after.events; ++at) {
    const WalEvent& event = recording.events[at];
    const bool overwrites = event.offset + event.data.size() <= late.size();
    if (event.kind != WalEvent::Kind::kWrite || overwrites) continue;
    write_to(late, event);
    WalFollower follower;
    Replica replica(before.database, 512);
    for (const Bytes* image : {&start, &late, &whole}) {
      const ReadAt read = testing::reader(*image);
      const WalScan scan = follower.scan(read, {.unchanged_below = image == &start ? 0 : 32U});
      replica.apply(scan, follower, read);
      ASSERT_TRUE(scan.withdrawn.empty()) << "event " << at;
      ASSERT_EQ(replica.content(), image == &whole ? after.database : before.database)
          << "event " << at;
    }
  }
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
    const Conditions conditions = any_conditions();
    const Recording recording = record(conditions);
    Replay(recording, conditions, true, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

TEST(CaptureInvariants, I1I2WithPagesThatArriveInAnyOrder) {
  EXPECT_TRUE(rc::check("any order", [] {
    const Conditions conditions = any_conditions();
    const Recording recording = record(conditions);
    Replay(recording, conditions, false, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

TEST(CaptureInvariants, I1I2WithChecksumsInTheOtherByteOrder) {
  EXPECT_TRUE(rc::check("big-endian", [] {
    Conditions conditions = any_conditions();
    conditions.big_endian = true;
    const Recording recording = record(conditions, 10);
    Replay(recording, conditions, true, *rc::gen::arbitrary<uint32_t>()).run();
  }));
}

}  // namespace
}  // namespace walfs
