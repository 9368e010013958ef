// How far applications have committed to their write-ahead logs, read from the -shm files through
// the mount.
//
// The pages of those files are in the kernel's cache, shared with the applications that have them
// mapped, so reading a head makes no request. Used by the flusher only.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fs/capture/wal_index.h"
#include "replicator/base/file_descriptor.h"

namespace walfs {

class HeadReader {
 public:
  // `order` counts what the server has seen happen by itself (names, rollback journals).
  HeadReader(int root, const std::atomic<uint64_t>& order) : root_(root), order_(order) {}

  void watch(uint64_t id, const std::string& database_path);
  void unwatch(uint64_t id) { watched_.erase(id); }
  void forget_all() { watched_.clear(); }

  // The order and all heads at one instant: read again until nothing moved meanwhile, or often
  // enough. As messages for the server, each {"order", "heads": [[id, salt1, salt2, frame], ...],
  // "more"}; only heads that have moved since the last call, and `more` on all but the last
  // message.
  std::vector<nlohmann::json> read_instant();

 private:
  struct Watched {
    FileDescriptor file;
    std::string path;
    WalIndexHeader head;  // At this look.
    WalIndexHeader told;  // What the server was told.
    bool known = false;
  };
  // Reads all heads; true if any is another than before.
  bool read_all();

  int root_;
  const std::atomic<uint64_t>& order_;
  std::map<uint64_t, Watched> watched_;
};

}  // namespace walfs
