// The process that makes the kernel write the mount's dirty pages back: everything that has to wait
// for the mount lives here, because a thread that waits for its own mount can neither be served
// nor killed. It has no descriptor of the FUSE device.
#pragma once

#include <atomic>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fs/mount/heads.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class Flusher {
 public:
  // root: an open directory of the mount. order: the volume's count of events, written by the
  // server.
  Flusher(FileDescriptor root, const std::atomic<uint64_t>& order)
      : root_(std::move(root)), heads_(root_.get(), order) {}

  // Fixes an instant, has all dirty pages and times of the mount written back, and tells the server
  // of the instant: the messages of HeadReader, the last one with the tokens of the barriers that
  // it completes.
  void tick(int server_channel);
  // A flusher begins with {"hello": true}; the server answers with what it wants, as below.
  // {"server": number}: a new server, which was told nothing yet; its instants carry the number.
  // {"watch": id, "path": database}, {"unwatch": id}, or {"barrier": token, "paths": [...]}: the
  // files are fsynced, so that all that was written to them arrives before the next instant. True
  // if a tick should follow at once.
  bool on_server_message(const nlohmann::json& message);

 private:
  void fsync_path(const std::string& path) const;

  FileDescriptor root_;
  HeadReader heads_;
  uint64_t server_ = 0;
  std::vector<uint64_t> tokens_;
  bool failing_ = false;
};

// A directory descriptor on a private copy of the mount, so that it does not keep the visible mount
// busy.
Result<FileDescriptor> open_mount_root(const std::string& mountpoint);

// The process `walfs flush-internal`. Ends when the mount is gone, or when told to.
int run_flusher();

}  // namespace walfs
