// Uploads chunks with a few threads and bounded memory, each content once.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/keys.h"
#include "replicator/outage.h"
#include "replicator/snapshot.h"
#include "replicator/stores/store.h"

namespace walfs {

class ChunkUploader {
 public:
  // `ask_first`: the store may have chunks already (an earlier upload that was interrupted); they
  // are not sent again.
  // After a failure a thread waits for `pause`, and each time longer.
  ChunkUploader(Store& store, bool ask_first, unsigned threads = 4,
                std::chrono::milliseconds pause = std::chrono::milliseconds(200));
  ~ChunkUploader();

  // Queues a chunk; waits while too many are queued. `done` is called from a thread once the store
  // has it. False: stopped.
  bool add(Bytes content, std::function<void(const ChunkRef&)> done);
  // Waits until everything queued is in the store. False: stopped.
  bool wait();
  void stop();
  std::optional<Error> error() const;
  uint64_t puts() const { return puts_; }

 private:
  struct Waiting {
    Bytes content;
    std::function<void(const ChunkRef&)> done;
  };
  void run();
  bool store_it(const ChunkRef& chunk, ByteView content);
  void note(const Status& done);
  Status upload(const ChunkRef& chunk, ByteView content);
  bool pause(int64_t ms);

  Store& store_;
  const bool ask_first_;
  const int64_t pause_ms_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  unsigned busy_ = 0;
  bool stopping_ = false;
  std::optional<Error> error_;
  Outage outage_;
  std::set<Sha256Digest> stored_;
  std::atomic<uint64_t> puts_{0};
  std::vector<std::thread> threads_;
};

}  // namespace walfs
