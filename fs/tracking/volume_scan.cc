// The scan's thread of a volume: what is read when it begins, which is all of it for a first
// upload, and what may have changed while nobody looked for a comparison.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "fs/tracking/volume.h"
#include "replicator/outage.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReadAgain(2000);
constexpr milliseconds kTryAgain(20);
// While more than this waits for the store a comparison brings nothing into the spool.
constexpr uint64_t kComparedBytesMax = uint64_t{64} << 20;

}  // namespace

void Volume::run_scan() {
  if (comparison_) {
    wait_for_room();
    if (until_read([this] { return comparison_->run(scan_.unread, stopping_); }) && !stopping_)
      cutter_->end_comparison();
  } else {
    upload_everything();
  }
  scan_.unread = {};
  const std::scoped_lock lock(mutex_);
  scan_done_ = !stopping_;
  changed_.notify_all();
}

// A part is in memory and in the open segment, and another waits; together with what was waiting
// before they must leave room for what is written meanwhile.
uint64_t Volume::part_bytes() const {
  return std::min(Cutter::kPartBytes, spool_limit_ / 8);
}

// What is found goes no faster than the store takes it.
void Volume::wait_for_room() {
  const uint64_t compared_max = std::min(kComparedBytesMax, spool_limit_ / 8);
  while (!stopping_ && !uploader_->wait_until_at_most(compared_max, 5 * kTryAgain)) {
  }
}

void Volume::ship_compared() {
  bool more = true;
  while (more && !stopping_) {
    Result<bool> made = false;
    {
      const std::scoped_lock lock(cut_mutex_);
      made = cutter_->cut_part();
      note_log_failure(made.ok() ? Status() : Status(made.error()));
    }
    more = !made.ok() || *made;
    if (!made.ok()) std::this_thread::sleep_for(kTryAgain);
    wait_for_room();
  }
}

// What cannot be read is tried again, and everything waits for it. False: it was given up, because
// the end is near.
bool Volume::until_read(const std::function<Status()>& read) {
  Status done = read();
  while (!done.ok()) {
    const bool unreadable = done.error().code == Errc::kRetry;
    note_unreadable(kScan, unreadable ? std::optional<Error>(done.error()) : std::nullopt);
    if (!unreadable) note_log_failure(done);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kReadAgain, [&] { return stopping_.load(); })) return false;
    lock.unlock();
    done = read();
  }
  note_unreadable(kScan, std::nullopt);
  return true;
}

void Volume::upload_everything() {
  bool all = false;
  until_read([&]() -> Status {
    WALFS_ASSIGN(all, first_upload_->run(scan_.unread, stopping_));
    return {};
  });
  if (!all) return;
  scan_.unread = {};
  std::unique_lock lock(mutex_);
  snapshot_wanted_ = true;
  snapshot_order_ = tracker_->next_order();
  changed_.wait(lock, [&] { return stopping_ || snapshot_; });
  if (stopping_ && !snapshot_) return;
  Snapshot snapshot = std::move(*snapshot_);
  snapshot_.reset();
  lock.unlock();
  if (!put_snapshot(std::move(snapshot))) return;
  spdlog::info("the first upload is complete");
}

// Once the log leads to its end, and never in an epoch that is somebody else's: whoever sees it can
// use it.
bool Volume::put_snapshot(Snapshot snapshot) {
  while (!uploader_->wait_for(snapshot.range.last, milliseconds(200))) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, milliseconds(50), [&] { return stopping_.load(); })) return false;
  }
  const Bytes object = encode_snapshot(snapshot);
  const PositionRange range = snapshot.range;
  snapshot = {};  // Of a million files it is much larger than the object.
  Outage outage("uploads of the first snapshot to " + store_->describe());
  while (true) {
    const Status put = store_->put(snapshot_key(range), ObjectBody::of(object), PutMode::kPlain);
    if (put.ok()) break;
    if (const auto line = outage.failed(put.error(), steady_ns())) spdlog::warn("{}", *line);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, milliseconds(2000), [&] { return stopping_.load(); })) return false;
  }
  note_snapshot_done();
  const std::scoped_lock lock(mutex_);
  snapshot_done_ = true;
  changed_.notify_all();
  return true;
}

// Durable at once: a crash of a directory that is idle from now on must not repeat the upload.
void Volume::note_snapshot_done() {
  const std::scoped_lock lock(cut_mutex_);
  Status noted = catalog_->set_snapshot_done();
  if (noted.ok()) noted = log_->seal();
  if (noted.ok()) noted = catalog_->commit(log_->sealed());
  note_log_failure(noted);
}

}  // namespace walfs
