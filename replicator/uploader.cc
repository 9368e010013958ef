#include "replicator/uploader.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "replicator/base/file_descriptor.h"
#include "replicator/log.h"
#include "replicator/segment.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kBackoffMinMs = 200;
constexpr int64_t kBackoffMaxMs = 15000;

}  // namespace

Uploader::Uploader(Store& store, std::string spool, Epoch epoch, bool claimed, Position uploaded,
                   std::function<void()> on_claimed)
    : store_(store),
      spool_(std::move(spool)),
      epoch_(std::move(epoch)),
      claimed_(claimed),
      on_claimed_(std::move(on_claimed)) {
  status_.uploaded = uploaded;
  thread_ = std::thread([this] { run(); });
}

Uploader::~Uploader() {
  stop();
}

void Uploader::add(PositionRange segment) {
  Waiting waiting{segment, 0, steady_ns()};
  struct stat attributes {};
  if (::stat((spool_ + "/" + segment_name(segment)).c_str(), &attributes) == 0) {
    waiting.size = static_cast<uint64_t>(attributes.st_size);
  }
  const std::scoped_lock lock(mutex_);
  waiting_.push_back(waiting);
  changed_.notify_all();
}

UploadStatus Uploader::status() const {
  const std::scoped_lock lock(mutex_);
  UploadStatus status = status_;
  status.segments_waiting = waiting_.size();
  for (const Waiting& waiting : waiting_) status.bytes_waiting += waiting.size;
  if (!waiting_.empty()) status.oldest_waiting_ns = waiting_.front().since_ns;
  return status;
}

bool Uploader::wait_for(Position position, milliseconds timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout,
                    [&] { return status_.uploaded >= position || status_.fenced || stopping_; });
  return status_.uploaded >= position;
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
    changed_.wait(lock, [&] { return stopping_ || (!waiting_.empty() && !status_.fenced); });
    if (stopping_) return;
    const Waiting segment = waiting_.front();
    lock.unlock();
    const Status done = upload(segment);
    lock.lock();
    if (done.ok()) {
      if (status_.error) spdlog::info("uploads to {} work again", store_.describe());
      status_.error.reset();
      status_.uploaded = segment.range.last;
      ++status_.puts;
      status_.bytes_put += segment.size;
      waiting_.pop_front();
      backoff_ms = kBackoffMinMs;
      changed_.notify_all();
      continue;
    }
    note_failure(done.error());
    if (status_.fenced) {
      changed_.notify_all();
      continue;
    }
    // Full jitter, so that many hosts do not come back at once.
    const auto pause = milliseconds(1 + random() % static_cast<uint64_t>(backoff_ms));
    changed_.wait_for(lock, pause, [&] { return stopping_; });
    backoff_ms = std::min(backoff_ms * 2, kBackoffMaxMs);
  }
}

// One line in the log for each new kind of failure, however often it is met.
void Uploader::note_failure(const Error& error) {
  const bool fenced = error.code == Errc::kConflict;
  if (!status_.error || status_.error->message != error.message) {
    if (fenced) {
      spdlog::error("replication has ended: {}", error.message);
    } else {
      spdlog::warn("upload failed, trying again: {}", error.message);
    }
  }
  status_.error = error;
  status_.fenced = fenced;
}

Status Uploader::upload(const Waiting& segment) {
  if (!claimed_) {
    WALFS_TRY(claim_epoch(store_, epoch_));
    claimed_ = true;
    if (on_claimed_) on_claimed_();
  }
  const std::string path = spool_ + "/" + segment_name(segment.range);
  WALFS_TRY(put_segment(path, segment));
  WALFS_TRY(check_not_replaced());
  ::unlink(path.c_str());
  return {};
}

// Positions carry the epoch, so the uploads of a writer that was replaced meet nobody; they are
// just no part of the history any more. Asked after each upload, or what is acknowledged might not
// count. A successor takes the next number.
Status Uploader::check_not_replaced() {
  if (epoch_.number >= Position::kEpochMax) return {};
  const auto next = store_.head(epoch_key(epoch_.number + 1));
  if (!next.ok())
    return {};  // Nothing there; or the store is failing, which the next upload meets.
  WALFS_ASSIGN(const std::optional<Epoch> newest, read_newest_epoch(store_));
  return Error{Errc::kConflict,
               "the replica at " + store_.describe() + " is now written by " +
                   (newest ? newest->holder + " since " + format_time(newest->time_ns)
                           : std::string("somebody else")) +
                   "; nothing of this directory is replicated any more"};
}

Status Uploader::put_segment(const std::string& path, const Waiting& segment) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return error_from_errno("cannot open " + path, errno);
  const std::string key = segment_key(segment.range);
  Status put =
      store_.put(key, ObjectBody::of_file(file.get(), 0, segment.size), PutMode::kIfAbsent);
  if (put.ok() || put.error().code != Errc::kConflict) return put;
  // Either our own upload, after which we died before we noted it, or somebody else's.
  WALFS_ASSIGN(const ObjectInfo stored, store_.head(key));
  bool same = stored.size == segment.size;
  const uint64_t tail = std::min<uint64_t>(segment.size, kSegmentTrailerSize);
  if (same) {
    // The trailer holds a checksum of the index, which holds checksums of all the rest.
    WALFS_ASSIGN(const Bytes theirs, store_.get_range(key, {segment.size - tail, tail}));
    Bytes ours(tail);
    const ssize_t n =
        ::pread(file.get(), ours.data(), tail, static_cast<off_t>(segment.size - tail));
    same = n == static_cast<ssize_t>(tail) && ours == theirs;
  }
  if (same) return {};
  return Error{Errc::kConflict, "another writer has written " + key + " to " + store_.describe()};
}

}  // namespace walfs
