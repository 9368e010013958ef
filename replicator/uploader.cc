#include "replicator/uploader.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "replicator/base/file_descriptor.h"
#include "replicator/claims.h"
#include "replicator/log.h"
#include "replicator/replica.h"
#include "replicator/segment.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kBackoffMinMs = 200;

// Files take whole blocks; of small segments there may be very many.
uint64_t room_of(uint64_t size) {
  constexpr uint64_t kBlock = 4096;
  return (size + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

Uploader::Uploader(Store& store, std::string spool, Epoch epoch, Fencing fencing, Position uploaded,
                   std::function<Status()> on_claimed, Drive drive)
    : store_(store),
      spool_(std::move(spool)),
      epoch_(std::move(epoch)),
      on_claimed_(std::move(on_claimed)),
      outage_("uploads to " + store.describe()) {
  status_.uploaded = uploaded;
  status_.fencing = fencing;
  if (drive == Drive::kThread) thread_ = std::thread([this] { run(); });
}

Uploader::~Uploader() {
  stop();
}

void Uploader::prove_log_from(Position known) {
  const std::scoped_lock lock(mutex_);
  to_prove_from_ = known;
}

void Uploader::on_uploaded(std::function<void(PositionRange, uint64_t)> callback) {
  const std::scoped_lock lock(mutex_);
  on_uploaded_ = std::move(callback);
}

void Uploader::add(PositionRange segment) {
  Waiting waiting{segment, 0, steady_ns()};
  struct stat attributes {};
  if (::stat((spool_ + "/" + segment_name(segment)).c_str(), &attributes) == 0) {
    waiting.size = static_cast<uint64_t>(attributes.st_size);
  }
  const std::scoped_lock lock(mutex_);
  status_.bytes_waiting += waiting.size;
  status_.room_waiting += room_of(waiting.size);
  waiting_.push_back(waiting);
  changed_.notify_all();
}

UploadStatus Uploader::status() const {
  const std::scoped_lock lock(mutex_);
  UploadStatus status = status_;
  status.segments_waiting = waiting_.size();
  if (!waiting_.empty()) status.oldest_waiting_ns = waiting_.front().since_ns;
  status.failing_since_ns = outage_.since_ns().value_or(0);
  return status;
}

bool Uploader::wait_for(Position position, milliseconds timeout) {
  // An epoch without a point yet begins at the state, and the sequence number, of the one before.
  const auto has_it = [&] { return status_.uploaded.sequence() >= position.sequence(); };
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return has_it() || status_.fenced || stopping_; });
  return has_it();
}

bool Uploader::wait_until_at_most(uint64_t bytes, milliseconds timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return status_.bytes_waiting <= bytes || stopping_; });
  return status_.bytes_waiting <= bytes;
}

void Uploader::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Uploader::run() {
  std::minstd_rand random(static_cast<unsigned>(steady_ns()));
  int64_t backoff_ms = kBackoffMinMs;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || has_work(); });
    if (stopping_) return;
    const Status done = attempt(lock);
    if (done.ok()) backoff_ms = kBackoffMinMs;
    if (done.ok() || status_.fenced) continue;
    // Full jitter, so that many hosts do not come back at once.
    const auto pause = milliseconds(1 + random() % static_cast<uint64_t>(backoff_ms));
    changed_.wait_for(lock, pause, [&] { return stopping_; });
    backoff_ms = std::min(backoff_ms * 2, kUploadBackoffMaxMs);
  }
}

bool Uploader::step() {
  std::unique_lock lock(mutex_);
  if (stopping_ || !has_work()) return false;
  static_cast<void>(attempt(lock).ok());
  return true;
}

// Called with the lock, which is free while the store is asked.
Status Uploader::attempt(std::unique_lock<std::mutex>& lock) {
  const Waiting segment = waiting_.front();
  lock.unlock();
  Status done = upload(segment);
  lock.lock();
  if (done.ok()) {
    note_success(segment);
    if (on_uploaded_) on_uploaded_(segment.range, segment.size);
  } else {
    note_failure(done.error());
  }
  if (done.ok() || status_.fenced) changed_.notify_all();
  return done;
}

void Uploader::note_success(const Waiting& segment) {
  waiting_.pop_front();
  status_.bytes_waiting -= segment.size;
  status_.room_waiting -= room_of(segment.size);
  status_.error.reset();
  status_.uploaded = segment.range.last;
  ++status_.puts;
  status_.bytes_put += segment.size;
  if (!outage_.since_ns()) return;
  const std::string rest = std::to_string(waiting_.size()) + " segments (" +
                           std::to_string(status_.bytes_waiting >> 10) + " KiB) wait";
  if (const auto line = outage_.succeeded(rest, steady_ns())) spdlog::info("{}", *line);
}

void Uploader::note_failure(const Error& error) {
  status_.error = error;
  status_.fenced = error.code == Errc::kConflict;
  if (status_.fenced) {
    spdlog::error("replication has ended: {}", error.message);
  } else if (const auto line = outage_.failed(error, steady_ns())) {
    spdlog::warn("{}", *line);
  }
}

Status Uploader::upload(const Waiting& segment) {
  WALFS_TRY(prove_log());
  WALFS_TRY(claim());
  const std::string path = spool_ + "/" + segment_name(segment.range);
  if (put_ != segment.range.last) WALFS_TRY(put_segment(path, segment));
  put_ = segment.range.last;
  WALFS_TRY(check_not_replaced());
  ::unlink(path.c_str());
  return {};
}

Status Uploader::prove_log() {
  std::optional<Position> from;
  Position uploaded;
  {
    const std::scoped_lock lock(mutex_);
    from = std::exchange(to_prove_from_, std::nullopt);
    uploaded = status_.uploaded;
  }
  if (!from) return {};
  const Result<bool> leads = log_leads(store_, *from, uploaded);
  if (leads.ok() && *leads) return {};
  const std::scoped_lock lock(mutex_);
  to_prove_from_ = from;
  if (!leads.ok()) return leads.error();
  return Error{Errc::kDamaged, "segments before " + uploaded.next().to_string() +
                                   " are neither in the spool nor in " + store_.describe() +
                                   "; unmount and mount again, and everything is uploaded anew"};
}

Status Uploader::claim() {
  {
    const std::scoped_lock lock(mutex_);
    if (status_.fencing != Fencing::kUnclaimed) return {};
  }
  WALFS_ASSIGN(const Fencing fencing, claim_late(store_, epoch_));
  if (on_claimed_) WALFS_TRY(on_claimed_());
  const std::scoped_lock lock(mutex_);
  status_.fencing = fencing;
  return {};
}

// Positions carry the epoch, so the uploads of a writer that was replaced meet nobody; they are
// just no part of the history any more. Asked after each upload, or what is acknowledged might not
// count. A successor has the next number: none is ever left out.
Status Uploader::check_not_replaced() {
  if (epoch_.number >= Position::kEpochMax) return {};
  const auto next = store_.head(epoch_key(epoch_.number + 1));
  if (!next.ok() && next.error().code == Errc::kNothingThere) return {};
  if (!next.ok()) return next.error();
  WALFS_ASSIGN(const std::optional<Epoch> newest, read_newest_epoch(store_));
  if (!newest || newest->number <= epoch_.number) {
    // Whoever answers, it is not the store alone: nothing is believed, and later is asked again.
    return Error{Errc::kRetry, store_.describe() + " contradicts itself: it has " +
                                   epoch_key(epoch_.number + 1) + ", but does not list it"};
  }
  Error replaced = held_by(store_, *newest);
  replaced.message += "; until then nothing of this directory is replicated any more";
  return replaced;
}

Status Uploader::put_segment(const std::string& path, const Waiting& segment) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return error_from_errno("cannot open " + path, errno);
  const std::string key = segment_key(segment.range);
  Status put =
      store_.put(key, ObjectBody::of_file(file.get(), 0, segment.size), PutMode::kIfAbsent);
  if (put.ok() || put.error().code != Errc::kConflict) return put;
  // Either our own upload, after which we died before we noted it, or somebody else's.
  // The trailer holds a checksum of the index, which holds checksums of all the rest.
  const uint64_t tail = std::min<uint64_t>(segment.size, kSegmentTrailerSize);
  const auto theirs = store_.get_range(key, {segment.size - tail, tail});
  const bool shorter = !theirs.ok() && theirs.error().code == Errc::kDamaged;
  if (!theirs.ok() && !shorter) return theirs.error();
  Bytes ours(tail);
  const ssize_t n = ::pread(file.get(), ours.data(), tail, static_cast<off_t>(segment.size - tail));
  if (n != static_cast<ssize_t>(tail)) return error_from_errno("cannot read " + path, errno);
  if (theirs.ok() && ours == *theirs) return {};
  return Error{Errc::kConflict, "another writer has written " + key + " to " + store_.describe()};
}

}  // namespace walfs
