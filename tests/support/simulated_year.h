// A volume's time beside what Litestream would do with the same commits of its databases, and the
// promises about what can be restored, looked at by samples.
#pragma once

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <string>
#include <vector>

#include "replicator/restore.h"
#include "replicator/snapshot.h"
#include "tests/support/litestream_usage.h"
#include "tests/support/restored_model.h"
#include "tests/support/simulated_volume.h"

namespace walfs::test {

class SimulatedYear {
 public:
  explicit SimulatedYear(std::vector<WorkloadFile> files) : volume_(std::move(files)) {
    for (size_t file = 0; file < volume_.files().size(); ++file)
      if (volume_.files()[file].database) add_database(file);
    volume_.on_second(
        [this](int64_t second, const std::vector<WorkloadCommit>& commits,
               const SimulatedVolume::Contents& contents) { pass(second, commits, contents); });
  }

  SimulatedVolume& volume() { return volume_; }
  const Usage& walfs() { return volume_.store().usage(); }
  const Usage& litestream_wal() { return until_now(wal_meter_); }
  const Usage& litestream_ltx() { return until_now(ltx_meter_); }

  // One of each kind of what is promised, restored and compared: the newest state, a commit of the
  // last 24 hours by its position, the last state of an hour of the seven days before by its time,
  // and a snapshot's.
  void expect_promises() {
    const int64_t now = now_ns();
    const int64_t begin = SimulatedVolume::kBeginSecond * kNsPerSecond;
    expect_restored({}, volume_.last());
    const Position day = volume_.position_at(std::max(begin, now - kDayNs));
    const uint64_t commits = volume_.last().sequence() - day.sequence();
    if (commits > 0) expect_position(Position{day.value + 1 + random_() % commits});
    const int64_t hours = std::min<int64_t>(7 * 24, (now - begin) / kHourNs) - 24;
    if (hours > 0) {
      const int64_t ago = 24 + static_cast<int64_t>(random_() % static_cast<uint64_t>(hours));
      const int64_t end = (now / kHourNs - ago) * kHourNs;
      RestoreTarget target;
      target.time_ns = end - 1;
      expect_restored(target, volume_.position_at(end - 1));
    }
    const auto snapshots = volume_.objects().keys("snapshots/");
    const auto range = parse_snapshot_key(snapshots[random_() % snapshots.size()]);
    ASSERT_TRUE(range);
    if (range->last.sequence() > 0 && is_remembered(range->last)) expect_position(range->last);
    volume_.objects().forget_requests();
  }
  uint64_t restored() const { return restored_; }

  // What is there does not depend on how long it has gone on: hours that are not thinned out yet,
  // windows that are, what waits for its time of grace, and the snapshots with their chunks.
  void expect_bounded() {
    const UpkeepPolicy policy;
    const auto count = [&](int64_t time_ns, int64_t of_ns) {
      return static_cast<uint64_t>(time_ns / of_ns);
    };
    const CompactionPolicy& levels = policy.compaction;
    const uint64_t hours = count(levels.thin_after_ns + 2 * levels.thin_window_ns, kHourNs) + 2;
    const uint64_t days = count(policy.retention.keep_ns, kDayNs) + 2;
    const uint64_t windows = days * count(kDayNs, levels.thin_window_ns);
    const uint64_t recent =
        volume_.last().sequence() - volume_.position_at(now_ns() - 2 * kHourNs).sequence();
    EXPECT_LE(volume_.objects().keys("log/").size(), hours + windows + recent + recent / 4);
    const uint64_t snapshots = volume_.objects().keys("snapshots/").size();
    EXPECT_LE(snapshots, days);
    const uint64_t passed = count(now_ns() - SimulatedVolume::kBeginSecond * kNsPerSecond, kDayNs);
    EXPECT_GE(snapshots, std::min(passed, count(policy.retention.keep_ns, kDayNs)));
    uint64_t chunks_each = volume_.files().size();
    for (size_t file = 0; file < volume_.files().size(); ++file)
      chunks_each += volume_.content_of(file).size() / kChunkSizeMax + 1;
    EXPECT_LE(volume_.objects().keys("chunks/").size(), (snapshots + 1) * chunks_each);
  }

 private:
  void add_database(size_t file) {
    const int64_t begin = SimulatedVolume::kBeginSecond;
    databases_.push_back({file,
                          LitestreamWal(
                              wal_meter_, [this, file] { return volume_.content_of(file); }, begin),
                          LitestreamLtx(
                              ltx_meter_, [this, file] { return page_sizes(file); }, begin)});
  }
  std::vector<uint64_t> page_sizes(size_t file) {
    const uint64_t page_size = volume_.files()[file].block_size;
    const Bytes content = volume_.content_of(file);
    std::vector<uint64_t> sizes;
    for (uint64_t at = 0; at < content.size(); at += page_size)
      sizes.push_back(lz4_block_size(ByteView(content).subspan(at, page_size)));
    return sizes;
  }
  void pass(int64_t second, const std::vector<WorkloadCommit>& commits,
            const SimulatedVolume::Contents& contents) {
    for (Database& database : databases_) {
      std::vector<WrittenPage> pages;
      auto content = contents.begin();
      for (const WorkloadCommit& commit : commits) {
        for (const uint64_t page : commit.written) {
          if (commit.file == database.file) pages.push_back({page + 1, *content});
          ++content;
        }
      }
      database.wal.pass(second, pages);
      database.ltx.pass(second, pages);
    }
  }
  static const Usage& until_now(UsageMeter& meter) {
    meter.pass_to(now_ns());
    return meter.usage();
  }

  bool is_remembered(Position position) const {
    return position > volume_.position_at(now_ns() - SimulatedVolume::kRemembered);
  }
  void expect_position(Position position) {
    RestoreTarget target;
    target.position = position;
    expect_restored(target, position);
  }
  void expect_restored(const RestoreTarget& target, Position expected) {
    const ScratchDirectory place(volume_.scratch().path());
    RestoreOptions options;
    options.target = target;
    options.threads = 1;
    const auto report = restore(volume_.objects(), place.path("restored"), options);
    ASSERT_TRUE(report.ok()) << expected.to_string() << ": " << report.error().message;
    EXPECT_EQ(report->position, expected);
    expect_tree(volume_.state_at(expected), kRootId, place.path("restored"));
    ++restored_;
  }

  struct Database {
    size_t file;
    LitestreamWal wal;
    LitestreamLtx ltx;
  };
  SimulatedVolume volume_;
  UsageMeter wal_meter_{SimulatedVolume::kBeginSecond * kNsPerSecond, kLitestreamPartSize};
  UsageMeter ltx_meter_{SimulatedVolume::kBeginSecond * kNsPerSecond, kLitestreamPartSize};
  std::list<Database> databases_;
  std::minstd_rand random_{7};
  uint64_t restored_ = 0;
};

}  // namespace walfs::test
