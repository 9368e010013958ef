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
#include "fs/tracking/tracker.h"
#include "fs/tracking/tree_scan.h"
#include "replicator/restore.h"
#include "replicator/time.h"
#include "replicator/uploader.h"
#include "replicator/verify.h"
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
  };
  explicit TrackedDirectory(Options options) : options_(options) {
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
    root_fd_ = FileDescriptor(::open(source().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    catalog_ = std::move(*Catalog::open(scratch_.path("state/catalog.db")));
    const bool clean = catalog_->header().clean;
    auto writer = begin_writing(store, *catalog_, spool(), "memory://test", "test", false);
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    writer_ = std::move(*writer);
    log_ = std::make_unique<Log>(*catalog_, spool(), writer_->start);
    uploader_ = std::make_unique<Uploader>(store, spool(), writer_->epoch, writer_->claimed,
                                           writer_->uploaded);
    for (const PositionRange& segment : writer_->spooled) uploader_->add(segment);
    log_->on_sealed([this](PositionRange segment) { uploader_->add(segment); });
    order_ = 0;
    tracker_ = std::make_unique<Tracker>(*catalog_, spool(), root_fd_.get(), order_);
    tracker_->set_next_id(catalog_->new_id());
    heads_ = std::make_unique<HeadReader>(root_fd_.get(), order_);
    tracker_->on_shm([this](const FileState& database, bool present) {
      if (present) {
        heads_->watch(database.id, tracker_->path_of(database));
      } else {
        heads_->unwatch(database.id);
      }
    });
    cutter_ = std::make_unique<Cutter>(*tracker_, *catalog_, *log_);
    auto scan = scan_tree(root_fd_.get(), *tracker_, *catalog_, writer_->fresh, clean);
    ASSERT_TRUE(scan.ok()) << scan.error().message;
    scan_ = std::move(*scan);
    mount_ = std::make_unique<TrackedMount>(root_fd_.get(), *tracker_, options_.page_cache,
                                            options_.seed);
    kept_heads_.clear();
    snapshot_wanted_ = false;
  }
  // Reads what the scan found, and makes cuts until it is settled: a snapshot, or compared files.
  void finish_first_upload() {
    read_unread();
    for (int i = 0; i < 10 && snapshot_wanted_; ++i) cut();
    EXPECT_FALSE(snapshot_wanted_);
  }
  // The scan's thread alone, without a cut.
  void read_unread() {
    if (!writer_->fresh) {
      ContentComparison(*tracker_).run(scan_.unread, stopping);
      return;
    }
    ChunkUploader chunks(store, writer_->store_has_chunks, 1);
    FirstUpload upload(*tracker_, *catalog_, chunks);
    const Result<bool> done = upload.run(scan_.unread, stopping);
    ASSERT_TRUE(done.ok()) << done.error().message;
    snapshot_wanted_ = *done;
  }
  // All applications have ended; the last cut takes everything.
  void finish() {
    mount_->write_back_all();
    bool all = false;
    for (int round = 0; round < 20 && !all; ++round) {
      Cut last = take_instant();
      last.order = UINT64_MAX;
      last.force = last.last = true;
      all = cut(last) && !cutter_->unsettled();
    }
    EXPECT_TRUE(all) << "the last cut does not settle";
    seal();
    EXPECT_TRUE(save_signatures(root_fd_.get(), *tracker_, *catalog_).ok());
    EXPECT_TRUE(catalog_->set_clean().ok());
  }
  // The process is killed.
  void abandon() {
    if (uploader_) uploader_->stop();
    mount_.reset();
    cutter_.reset();
    heads_.reset();
    tracker_.reset();
    uploader_.reset();
    log_.reset();
    catalog_.reset();
    root_fd_.reset();
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
    for (const nlohmann::json& message : heads_->read_instant()) {
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
  bool cut(Cut cut) {
    cut.heads.insert(cut.heads.begin(), kept_heads_.begin(), kept_heads_.end());
    const Result<bool> made = cutter_->cut(cut);
    log_error_ = made.ok() ? std::nullopt : std::optional<Error>(made.error());
    if (!made.ok() || !*made) {
      kept_heads_ = std::move(cut.heads);
      return false;
    }
    kept_heads_.clear();
    if (snapshot_wanted_ && cutter_->scan_settled()) put_snapshot();
    return true;
  }
  bool cut(bool force = false) {
    Cut instant = take_instant();
    instant.force = force;
    mount_->write_back_all();
    return cut(std::move(instant));
  }
  void seal() {
    const Status sealed = log_->seal();
    EXPECT_TRUE(sealed.ok()) << sealed.error().message;
    EXPECT_TRUE(uploader_->wait_for(log_->sealed(), std::chrono::seconds(60)));
  }
  // As sync: everything that has ended is in the store afterwards. The position.
  Position sync() {
    for (int round = 0; round < 20; ++round)
      if (cut(true) && !cutter_->unsettled()) break;
    EXPECT_FALSE(cutter_->unsettled());
    seal();
    return log_->last();
  }

  // ---- What comes back.

  std::vector<Position> positions() {
    const auto history = read_history(store);
    EXPECT_TRUE(history.ok()) << history.error().message;
    std::vector<Position> found;
    if (history.ok())
      for (const HistoryPoint& point : *history) found.push_back(point.position);
    return found;
  }
  // The path of a new directory.
  std::string restore(Position position) {
    const std::string target = scratch_.path("restored/" + std::to_string(++restored_));
    RestoreOptions options;
    options.target.position = position;
    options.threads = 1;
    const auto report = walfs::restore(store, target, options);
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
  std::string spool() const { return scratch_.path("state/spool"); }
  TrackedMount& mount() { return *mount_; }
  Tracker& tracker() { return *tracker_; }
  Cutter& cutter() { return *cutter_; }
  Log& log() { return *log_; }
  Catalog& catalog() { return *catalog_; }
  const TreeScan& scan() const { return scan_; }
  const WriterStart& writer() const { return *writer_; }
  const std::optional<Error>& log_error() const { return log_error_; }
  bool first_upload_done() const { return !snapshot_wanted_; }

  MemoryStore store;
  std::atomic<bool> stopping{false};  // Of the scan.

 private:
  void put_snapshot() {
    const Result<Position> last = cutter_->append_empty();
    ASSERT_TRUE(last.ok());
    auto snapshot = catalog_->snapshot({writer_->start, *last}, now_ns());
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
    seal();
    const Bytes object = encode_snapshot(*snapshot);
    ASSERT_TRUE(
        store.put(snapshot_key(snapshot->range), ObjectBody::of(object), PutMode::kPlain).ok());
    ASSERT_TRUE(catalog_->set_snapshot_done().ok());
    ASSERT_TRUE(catalog_->commit(log_->sealed()).ok());
    snapshot_wanted_ = false;
  }

  const Options options_;
  ScratchDirectory scratch_;
  FileDescriptor root_fd_;
  std::atomic<uint64_t> order_{0};
  std::unique_ptr<Catalog> catalog_;
  std::optional<WriterStart> writer_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Uploader> uploader_;
  std::unique_ptr<Tracker> tracker_;
  std::unique_ptr<HeadReader> heads_;
  std::unique_ptr<Cutter> cutter_;
  std::unique_ptr<TrackedMount> mount_;
  TreeScan scan_;
  std::vector<Head> kept_heads_;
  std::optional<Error> log_error_;
  std::atomic<bool> snapshot_wanted_{false};
  int restored_ = 0;
};

}  // namespace walfs::test
