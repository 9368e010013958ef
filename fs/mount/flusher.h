// The process that makes the kernel write the mount's dirty pages back: everything that has to wait
// for the mount lives here, because a thread that waits for its own mount can neither be served
// nor killed. It has no descriptor of the FUSE device.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "fs/mount/descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class Flusher {
 public:
  // root: an open directory of the mount.
  explicit Flusher(FileDescriptor root) : root_(std::move(root)) {}

  // Writes all dirty pages and times of the mount back; returns when the server has them.
  void tick();
  // A message from the server.
  void on_server_message(int server_channel, const nlohmann::json& message);
  int root() const { return root_.get(); }

 private:
  FileDescriptor root_;
  bool failing_ = false;
};

// A directory descriptor on a private copy of the mount, so that it does not keep the visible mount
// busy.
Result<FileDescriptor> open_mount_root(const std::string& mountpoint);

// The process `walfs flush-internal`. Ends when the mount is gone, or when told to.
int run_flusher();

}  // namespace walfs
