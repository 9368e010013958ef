#include "replicator/litestream/object_reader.h"

#include <algorithm>
#include <thread>

namespace walfs::litestream {
namespace {

constexpr uint64_t kRangeSize = 8 << 20;
constexpr size_t kAheadMax = 64;
constexpr uint64_t kAheadBytesMax = 4 * kRangeSize;

}  // namespace

ObjectReader::ObjectReader(Store& store, const std::vector<Object>& objects,
                           const RestoreOptions& options)
    : store_(store), objects_(objects), options_(options) {
  for (const Object& object : objects) progress_.bytes_total += object.size;
}

Status ObjectReader::read_frame(const Sink& sink) {
  const Object& object = objects_[next_];
  Lz4Frame frame(object.key);
  bool empty = true;
  const Sink count_and_pass = [&](ByteView content) -> Status {
    empty = false;
    return sink(content);
  };
  WALFS_TRY(
      read_stored([&](ByteView stored) -> Status { return frame.add(stored, count_and_pass); }));
  WALFS_TRY(frame.finish());
  if (empty) return Error{Errc::kDamaged, object.key + " is damaged: it holds nothing"};
  return {};
}

Status ObjectReader::read_stored(const Sink& sink) {
  WALFS_TRY(check_cancelled(options_));
  const Object& object = objects_[next_];
  if (object.size <= kRangeSize) {
    if (ahead_at_ == ahead_.size()) WALFS_TRY(fetch_ahead());
    const Result<Bytes> stored = std::move(ahead_[ahead_at_++]);
    ++next_;
    if (!stored.ok()) return stored.error();
    WALFS_TRY(sink(*stored));
    note_progress(object.size);
    return {};
  }
  ++next_;
  for (uint64_t done = 0; done < object.size;) {
    WALFS_TRY(check_cancelled(options_));
    const uint64_t size = std::min(kRangeSize, object.size - done);
    WALFS_ASSIGN(const Bytes stored, store_.get_range(object.key, {done, size}));
    WALFS_TRY(sink(stored));
    done += size;
    note_progress(size);
  }
  return {};
}

// The next object and the small ones behind it.
Status ObjectReader::fetch_ahead() {
  size_t end = next_;
  uint64_t bytes = 0;
  while (end < objects_.size() && end - next_ < kAheadMax && objects_[end].size <= kRangeSize &&
         bytes + objects_[end].size <= kAheadBytesMax) {
    bytes += objects_[end++].size;
  }
  ahead_.assign(end - next_, Bytes());
  ahead_at_ = 0;
  std::atomic<size_t> at{0};
  const auto work = [&] {
    for (size_t i = at++; i < ahead_.size(); i = at++) {
      const Object& object = objects_[next_ + i];
      if (const Status wanted = check_cancelled(options_); !wanted.ok()) {
        ahead_[i] = wanted.error();
      } else {
        ahead_[i] = store_.get(object.key, object.size);
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min<size_t>(options_.threads, ahead_.size()); ++i)
    threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return {};
}

void ObjectReader::note_progress(uint64_t bytes) {
  progress_.bytes_done += bytes;
  if (options_.progress) options_.progress(progress_);
}

}  // namespace walfs::litestream
