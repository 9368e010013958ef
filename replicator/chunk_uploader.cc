#include "replicator/chunk_uploader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "replicator/time.h"

namespace walfs {
namespace {

constexpr size_t kQueueMax = 8;

}  // namespace

ChunkUploader::ChunkUploader(Store& store, bool ask_first, unsigned threads,
                             std::chrono::milliseconds pause)
    : store_(store),
      ask_first_(ask_first),
      pause_ms_(pause.count()),
      outage_("uploads of the first content to " + store.describe()) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

ChunkUploader::~ChunkUploader() {
  stop();
}

bool ChunkUploader::add(Bytes content, std::function<void(const ChunkRef&)> done) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || waiting_.size() < kQueueMax; });
  if (stopping_) return false;
  waiting_.push_back({std::move(content), std::move(done)});
  changed_.notify_all();
  return true;
}

bool ChunkUploader::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || (waiting_.empty() && busy_ == 0); });
  return !stopping_;
}

void ChunkUploader::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

std::optional<Error> ChunkUploader::error() const {
  const std::scoped_lock lock(mutex_);
  return error_;
}

bool ChunkUploader::pause(int64_t ms) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return stopping_; });
}

void ChunkUploader::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    ++busy_;
    changed_.notify_all();
    lock.unlock();
    const ChunkRef chunk{sha256(next.content), next.content.size()};
    if (store_it(chunk, next.content)) next.done(chunk);
    lock.lock();
    --busy_;
    changed_.notify_all();
  }
}

// Tries until the store has the chunk. False: stopped before.
bool ChunkUploader::store_it(const ChunkRef& chunk, ByteView content) {
  for (int64_t backoff_ms = pause_ms_;;
       backoff_ms = std::min(backoff_ms * 2, kUploadBackoffMaxMs)) {
    const Status done = upload(chunk, content);
    note(done);
    if (done.ok()) return true;
    if (!pause(backoff_ms)) return false;
  }
}

void ChunkUploader::note(const Status& done) {
  const std::scoped_lock lock(mutex_);
  if (done.ok()) {
    error_.reset();
    if (const auto line = outage_.succeeded("", steady_ns())) spdlog::info("{}", *line);
    return;
  }
  if (const auto line = outage_.failed(done.error(), steady_ns())) spdlog::warn("{}", *line);
  error_ = done.error();
}

Status ChunkUploader::upload(const ChunkRef& chunk, ByteView content) {
  {
    const std::scoped_lock lock(mutex_);
    if (stored_.contains(chunk.digest)) return {};
  }
  const std::string key = chunk_key(chunk.digest);
  bool there = false;
  if (ask_first_) {
    const auto found = store_.head(key);
    if (!found.ok() && found.error().code != Errc::kNothingThere) return found.error();
    there = found.ok();
  }
  if (!there) {
    const Bytes object = encode_chunk(content);
    WALFS_TRY(store_.put(key, ObjectBody::of(object), PutMode::kPlain));
    ++puts_;
  }
  const std::scoped_lock lock(mutex_);
  stored_.insert(chunk.digest);
  return {};
}

}  // namespace walfs
