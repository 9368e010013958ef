// A replicated directory in one process and one thread, without a mount: the tracker, cutter, log,
// uploader and first upload put together as fs/tracking/volume.cc does, driven request by request
// (tracked_mount.h) and cut when the test says so. The store is memory.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "fs/mount/heads.h"
#include "fs/tracking/content_scan.h"
#include "fs/tracking/cutter.h"
#include "fs/tracking/touched_observer.h"
#include "fs/tracking/tracker.h"
#include "fs/tracking/tree_scan.h"
#include "replicator/claims.h"
#include "replicator/history.h"
#include "replicator/restore.h"
#include "replicator/time.h"
#include "replicator/upkeep.h"
#include "replicator/uploader.h"
#include "replicator/writer.h"
#include "tests/support/memory_store.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/tracked_mount.h"
#include "tests/support/tree_compare.h"

namespace walfs::test {

class TrackedDirectory {
 public:
  struct Options {
    bool page_cache = false;
    uint32_t seed = 1;
    bool start = true;
    // Of a simulation: uploads are made step by step, to this store, and may fail. What is
    // restored comes from `objects`, the same store without its faults.
    Store* uploads = nullptr;
    Store* objects = nullptr;
    const char* parent = nullptr;  // Where its files lie; null for the usual place.
    // How much a partial point has while files are compared; 0: as ever.
    uint64_t part_bytes = 0;
    // As with --durability sync: the kernel passes each write on at once.
    bool write_through = false;
  };
  explicit TrackedDirectory(Options options)
      : options_(options),
        uploads_(options.uploads != nullptr ? *options.uploads : store),
        objects_(options.objects != nullptr ? *options.objects : store),
        scratch_(options.parent != nullptr ? options.parent
                                           : std::filesystem::temp_directory_path().string()) {
    scratch_.make("source");
    scratch_.make("state");
    scratch_.make("state/spool");
    scratch_.make("restored");
    if (!options.start) return;
    start();
    finish_first_upload();
  }
  TrackedDirectory() : TrackedDirectory(Options{}) {}
  ~TrackedDirectory() { abandon(); }
  TrackedDirectory(const TrackedDirectory&) = delete;
  TrackedDirectory& operator=(const TrackedDirectory&) = delete;

  // ---- Beginning and end, as a server's.

  void start() {
    const Status started = try_start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  // Called, without locks, whenever a comparison has found much.
  std::function<void()> while_comparing;
  // After a failure all is as before, and it may be tried again.
  Status try_start(bool take_over = false) {
    Status started = begin(false, take_over);
    if (!started.ok()) abandon();
    return started;
  }
  // After abandon() or die(): the next server of the same mount, which has the shared memory of the
  // last.
  void resume() {
    const Status resumed = begin(true, false);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message;
  }
  // Reads what the scan found, and makes cuts until it is settled: a snapshot, or compared files.
  void finish_first_upload() {
    read_unread();
    for (int i = 0; i < 10 && snapshot_wanted_; ++i) cut();
    EXPECT_FALSE(snapshot_wanted_);
  }
  // The scan's thread alone, without a cut: so many files more. True at the end. Not further than
  // to a file that cannot be read.
  bool read_unread(size_t count = SIZE_MAX) {
    const size_t end = read_ + std::min(count, scan_.unread.size() - read_);
    const std::vector<UnreadFile> files(scan_.unread.begin() + static_cast<std::ptrdiff_t>(read_),
                                        scan_.unread.begin() + static_cast<std::ptrdiff_t>(end));
    const bool all = end == scan_.unread.size();
    const auto note = [&](const Status& done) {
      EXPECT_TRUE(done.ok() || done.error().code == Errc::kRetry || catalog_fails())
          << done.error().message;
      unreadable_ = done.ok() ? std::nullopt : std::optional<Error>(done.error());
      if (done.ok()) read_ = end;
      return done.ok();
    };
    if (!writer_->fresh) {
      ContentComparison comparison(*tracker_, part_bytes(), [this] { ship_compared(); });
      compared_ = note(comparison.run(files, stopping)) && all && !stopping;
      if (compared_) cutter_->end_comparison();
      return all;
    }
    ChunkUploader chunks(uploads_, writer_->store_has_chunks, 1, std::chrono::milliseconds(1));
    FirstUpload upload(*tracker_, *catalog_, chunks);
    const Result<bool> done = upload.run(files, stopping);
    if (!note(done.ok() ? Status() : Status(done.error()))) return false;
    snapshot_order_ = tracker_->next_order();
    snapshot_wanted_ = *done && all;  // Whoever cuts meanwhile sees the order, too.
    return all;
  }
  // All applications have ended; the last cut takes everything.
  void finish() {
    EXPECT_TRUE(make_last_cuts()) << "the last cut does not settle";
    seal();
    note_clean();
  }
  // False if not everything is in the log: the next start must not take anything for unchanged.
  bool make_last_cuts() {
    mount_->write_back_all();
    bool all = false;
    for (int round = 0; round < 20 && !all; ++round) {
      Cut last = take_instant();
      last.order = UINT64_MAX;
      last.force = last.last = true;
      all = cut(last) && !cutter_->unsettled();
    }
    return all && seal_locally().ok();
  }
  void note_clean() {
    EXPECT_TRUE(save_signatures(root_fd_.get(), *tracker_, *catalog_).ok());
    EXPECT_TRUE(catalog_->set_clean().ok());
  }
  // The server is killed, the kernel and the applications go on with the mount.
  void die() {
    mount_->lose_server();
    end_server();
  }
  // What the next server would know of syncs is lost: there was no room for it.
  void forget_syncs() {
    for (auto& inode : touched_->synced) inode = 0;
  }
  // The server hands over to one that only notes what is touched; and that one to one that
  // compares.
  void pause() {
    die();
    root_fd_ = FileDescriptor(::open(source().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    paused_ = std::make_unique<TouchedObserver>(*touched_, root_fd_.get(), false);
    mount_->attach_server(root_fd_.get(), *paused_);
  }
  void resume_after_pause() {
    mount_->lose_server();
    paused_.reset();
    resume();
  }
  // Server, mount and applications end; what the kernel had not written is lost.
  void abandon() {
    mount_.reset();
    end_server();
  }
  // Ends in order and begins again.
  void restart() {
    finish();
    abandon();
    start();
    finish_first_upload();
  }

  // ---- Cuts.

  // What the flusher does first: the order and the heads of one instant.
  Cut take_instant() {
    Cut cut;
    for (nlohmann::json& message : heads_->read_instant()) {
      // Those of commits that wait are not to be seen yet.
      if (options_.write_through) message["heads"] = nlohmann::json::array();
      for (const auto& head : message.at("heads")) {
        cut.heads.push_back({head.at(0).get<FileId>(),
                             {head.at(1).get<uint32_t>(), head.at(2).get<uint32_t>()},
                             head.at(3).get<uint32_t>()});
      }
      cut.order = message.at("order").get<uint64_t>();
    }
    return cut;
  }
  // What the server makes of it once everything has arrived.
  bool cut(const Cut& cut) {
    const Result<bool> made = cutter_->cut(cut);
    log_error_ = made.ok() ? std::nullopt : std::optional<Error>(made.error());
    if (!made.ok() || !*made) return false;
    take_snapshot_position(cut.order);
    if (snapshot_ && options_.uploads == nullptr) {
      seal();
      const Status stored = store_snapshot();
      EXPECT_TRUE(stored.ok()) << stored.error().message;
    }
    return true;
  }
  bool cut(bool force = false) {
    Cut instant = take_instant();
    instant.force = force;
    mount_->write_back_all();
    return cut(instant);
  }
  Status seal_locally() {
    const Status sealed = log_->seal();
    if (sealed.ok() && !cutter_->pending()) tracker_->sealed(compared_);
    return sealed;
  }
  void seal() {
    const Status sealed = seal_locally();
    EXPECT_TRUE(sealed.ok()) << sealed.error().message;
    EXPECT_TRUE(uploader_->wait_for(log_->sealed(), std::chrono::seconds(60)));
  }
  // What a commit that waits for the store waits for, as Volume seals it; nothing: not yet.
  std::optional<Position> seal_committed() {
    Cut now;
    now.order = tracker_->current_order();
    if (!cut(now) || !cutter_->databases_settled() || !seal_locally().ok()) return std::nullopt;
    if (log_->sealed() != log_->last()) return std::nullopt;
    return log_->sealed();
  }
  // As sync: everything that has ended is in the store afterwards. The position.
  Position sync() {
    for (int round = 0; round < 20; ++round)
      if (cut(true) && !cutter_->unsettled()) break;
    EXPECT_FALSE(cutter_->unsettled());
    seal();
    return log_->last();
  }

  // The first snapshot, once there is one that waits.
  Status store_snapshot() {
    const auto wait = std::chrono::seconds(options_.uploads != nullptr ? 0 : 30);
    if (!uploader_->wait_for(snapshot_->range.last, wait))
      return Error{Errc::kRetry, "its log is not there yet"};
    const Bytes object = encode_snapshot(*snapshot_);
    WALFS_TRY(
        uploads_.put(snapshot_key(snapshot_->range), ObjectBody::of(object), PutMode::kPlain));
    compared_ = true;
    snapshot_end_ = snapshot_->range.last;
    snapshot_.reset();
    WALFS_TRY(catalog_->set_snapshot_done());
    WALFS_TRY(log_->seal());
    return catalog_->commit(log_->sealed());
  }

  // ---- What comes back.

  std::vector<Position> positions() {
    const auto history = read_history(objects_);
    EXPECT_TRUE(history.ok()) << history.error().message;
    std::vector<Position> found;
    if (history.ok())
      for (const HistoryPoint& point : history->points) found.push_back(point.position);
    return found;
  }
  // The path of a new directory.
  std::string restore(Position position) {
    const std::string target = scratch_.path("restored/" + std::to_string(++restored_));
    RestoreOptions options;
    options.target.position = position;
    options.threads = 1;
    const auto report = walfs::restore(objects_, target, options);
    EXPECT_TRUE(report.ok()) << position.to_string() << ": " << report.error().message;
    return target;
  }
  Tree restored_tree(Position position) {
    const std::string target = restore(position);
    Tree tree = read_tree(target);
    std::filesystem::remove_all(target);
    return tree;
  }
  // The last point is what is in the source now.
  void expect_all_restored() {
    const auto differences = compare_trees(read_tree(source()), restored_tree(log_->sealed()));
    EXPECT_TRUE(differences.empty()) << join_lines(differences);
  }

  std::string source() const { return scratch_.path("source"); }
  std::string source(const std::string& name) const { return source() + "/" + name; }
  std::string state() const { return scratch_.path("state"); }
  std::string spool() const { return scratch_.path("state/spool"); }
  TrackedMount& mount() { return *mount_; }
  Tracker& tracker() { return *tracker_; }
  Cutter& cutter() { return *cutter_; }
  Log& log() { return *log_; }
  Catalog& catalog() { return *catalog_; }
  const TreeScan& scan() const { return scan_; }
  const WriterStart& writer() const { return *writer_; }
  const std::optional<Error>& log_error() const { return log_error_; }
  const std::optional<Error>& unreadable() const { return unreadable_; }
  Uploader& uploader() { return *uploader_; }
  Upkeep& upkeep() { return *upkeep_; }
  bool running() const { return writer_ && uploader_ != nullptr; }
  bool first_upload_done() const { return !snapshot_wanted_; }
  bool snapshot_waits() const { return snapshot_.has_value(); }
  // As sync waits for: a snapshot of this writer's state, or of the one that it builds on.
  bool snapshot_done() const { return compared_ || !writer_->fresh; }
  Position snapshot_end() const { return snapshot_end_; }

  MemoryStore store;
  std::atomic<bool> stopping{false};  // Of the scan.
  bool catalog_may_fail = false;      // Its disk is full, or ill.

 private:
  Status begin(bool resumed, bool take_over) {
    root_fd_ = FileDescriptor(::open(source().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    scratch_.make("state");
    scratch_.make("state/spool");
    WALFS_ASSIGN(catalog_, Catalog::open(scratch_.path("state/catalog.db")));
    const bool clean = catalog_->header().clean;
    if (resumed) {
      WALFS_ASSIGN(writer_, resume_writing(*catalog_, spool(), "memory://test", "test"));
    } else {
      WALFS_ASSIGN(writer_,
                   begin_writing(uploads_, *catalog_, spool(), "memory://test", "test", take_over));
    }
    log_ = std::make_unique<Log>(*catalog_, spool(), writer_->start);
    uploader_ = std::make_unique<Uploader>(
        uploads_, spool(), writer_->epoch, writer_->fencing, writer_->uploaded,
        [this] { return note_claimed(*catalog_, spool()); },
        options_.uploads != nullptr ? Uploader::Drive::kSteps : Uploader::Drive::kThread);
    upkeep_ = std::make_unique<Upkeep>(uploads_, spool(), upkeep_policy(), Upkeep::Drive::kSteps);
    uploader_->on_uploaded(
        [this](PositionRange range, uint64_t size) { upkeep_->add(range, size); });
    uploader_->prove_log_from(writer_->proven);
    for (const PositionRange& segment : writer_->spooled) uploader_->add(segment);
    log_->on_sealed([this](PositionRange segment) { uploader_->add(segment); });
    if (!resumed) {
      order_ = 0;
      touched_ = std::make_unique<TouchedFiles::Table>();
      touched_->everything = 1;
    }
    return begin_tracking(resumed ? Trust::kUntouched
                          : clean ? Trust::kSignatures
                                  : Trust::kNothing);
  }
  Status begin_tracking(Trust trust) {
    tracker_ = std::make_unique<Tracker>(*catalog_, spool(), root_fd_.get(), order_, *touched_);
    tracker_->set_next_id(catalog_->new_id());
    if (trust != Trust::kUntouched) tracker_->touch_everything();
    heads_ = std::make_unique<HeadReader>(root_fd_.get(), order_);
    tracker_->on_shm([this](const FileState& database, bool present) {
      if (present) {
        heads_->watch(database.id, tracker_->path_of(database));
      } else {
        heads_->unwatch(database.id);
      }
    });
    cutter_ = std::make_unique<Cutter>(*tracker_, *log_, part_bytes());
    if (!writer_->fresh && (options_.uploads != nullptr || options_.part_bytes != 0))
      cutter_->begin_comparison();
    WALFS_ASSIGN(scan_, scan_tree(root_fd_.get(), *tracker_, *catalog_, writer_->fresh, trust));
    if (options_.write_through) {
      tracker_->set_write_through();
      cutter_->do_without_heads();
    }
    if (mount_ != nullptr) {
      mount_->attach_server(root_fd_.get(), *tracker_);
    } else {
      mount_ = std::make_unique<TrackedMount>(root_fd_.get(), *tracker_, options_.page_cache,
                                              options_.seed);
    }
    return {};
  }
  // As in a year of which a simulation has some seconds. Points of all times are kept, to be
  // compared.
  static UpkeepPolicy upkeep_policy() {
    constexpr int64_t kMs = 1'000'000;
    UpkeepPolicy policy;
    policy.compaction.levels = {{20 * kMs, 2}, {100 * kMs, 2}, {1000 * kMs, 2}};
    policy.compaction.grace_ns = 50 * kMs;
    policy.compaction.thin_window_ns = 100 * kMs;
    policy.compaction.thin_after_ns = 200 * kMs;
    policy.compaction.hour_ns = 30 * kMs;
    policy.snapshots.interval_ns = 40 * kMs;
    policy.snapshots.log_size_min = 20'000;
    policy.snapshots.log_per_content = 1;
    policy.retention.keep_ns = 0;
    policy.retention.chunk_grace_ns = 100 * kMs;
    return policy;
  }
  void end_server() {
    if (uploader_) uploader_->stop();
    cutter_.reset();
    heads_.reset();
    tracker_.reset();
    uploader_.reset();
    upkeep_.reset();
    log_.reset();
    catalog_.reset();
    root_fd_.reset();
    snapshot_.reset();
    snapshot_wanted_ = compared_ = false;
    read_ = 0;
  }
  bool catalog_fails() const { return catalog_may_fail || catalog_->transaction_lost(); }
  uint64_t part_bytes() const {
    return options_.part_bytes != 0 ? options_.part_bytes : Cutter::kPartBytes;
  }
  // As Volume does; a spool that cannot be written is not waited for.
  void ship_compared() {
    while (true) {
      const Result<bool> made = cutter_->cut_part();
      log_error_ = made.ok() ? std::nullopt : std::optional<Error>(made.error());
      if (!made.ok() || !*made) break;
    }
    if (while_comparing) while_comparing();
  }
  // When everything was read, and nothing of it in the middle of a transaction.
  void take_snapshot_position(uint64_t order) {
    if (!snapshot_wanted_ || order < snapshot_order_ || !cutter_->scan_settled()) return;
    const Result<Position> last = cutter_->append_empty();
    if (!last.ok()) return;
    auto snapshot = catalog_->snapshot({writer_->start, *last}, now_ns());
    log_error_ = snapshot.ok() ? std::nullopt : std::optional<Error>(snapshot.error());
    ASSERT_TRUE(snapshot.ok() || catalog_fails()) << snapshot.error().message;
    if (!snapshot.ok()) return;
    snapshot_ = std::move(*snapshot);
    snapshot_wanted_ = false;
    static_cast<void>(seal_locally().ok());
  }

  const Options options_;
  Store& uploads_;
  Store& objects_;
  ScratchDirectory scratch_;
  FileDescriptor root_fd_;
  std::atomic<uint64_t> order_{0};
  std::unique_ptr<TouchedFiles::Table> touched_ = std::make_unique<TouchedFiles::Table>();
  std::unique_ptr<Catalog> catalog_;
  std::optional<WriterStart> writer_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Uploader> uploader_;
  std::unique_ptr<Tracker> tracker_;
  std::unique_ptr<HeadReader> heads_;
  std::unique_ptr<Cutter> cutter_;
  std::unique_ptr<TouchedObserver> paused_;
  std::unique_ptr<TrackedMount> mount_;
  TreeScan scan_;
  std::optional<Error> log_error_;
  std::optional<Error> unreadable_;  // Why the scan did not come to its end.
  std::atomic<bool> snapshot_wanted_{false};
  std::optional<Snapshot> snapshot_;  // That the store does not have yet.
  Position snapshot_end_;
  uint64_t snapshot_order_ = 0;
  bool compared_ = false;
  size_t read_ = 0;  // Of what the scan found.
  int restored_ = 0;
};

}  // namespace walfs::test
