// What the mount calls in the rest of the program: the server process gets one ServerHooks from a
// factory and tells it of its life.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "fs/mount/options.h"
#include "fs/mount/reply_gate.h"
#include "fs/tracking/observer.h"
#include "replicator/base/result.h"

namespace walfs {

class ControlServer;
struct SharedState;

// Descriptors stay owned by the mount and open until finish() has returned.
struct ServerContext {
  const MountOptions& options;
  int backing_fd;          // O_RDONLY directory: the only way to the backing files.
  int state_fd;            // O_RDONLY directory `.walfs` in it.
  SharedState& shared;     // What outlives the server.
  bool resumed;            // A server of this mount died before; its kernel cache lives on.
  int flusher_fd;          // SOCK_SEQPACKET to the flusher process.
  int flusher_pid;         // FSYNC requests that it makes are barriers.
  ControlServer& control;  // For handlers of further commands; set them in start().
  // Whether the server can be replaced now by another that goes on with everything; and ends it
  // for that, at whatever instant this is called. Any thread.
  std::function<bool()> can_hand_over;
  std::function<void()> hand_over;
};

class ServerHooks {
 public:
  virtual ~ServerHooks() = default;

  // Called once, before the first request is served. A failure ends the mount and is shown to the
  // user.
  virtual Status start(const ServerContext& context) = 0;
  // Valid from start() to the end; called by every request thread.
  virtual FileObserver& observer() = 0;
  // Where answers to commits wait; null unless they do. Valid as the observer is.
  virtual ReplyGate* reply_gate() { return nullptr; }
  // Fields for `walfs status`. Any thread; must not block.
  virtual nlohmann::json status() = 0;
  // Returns once everything written before the call is in the store, or the timeout has passed.
  virtual Result<nlohmann::json> sync(int64_t timeout_ms) = 0;
  // Called once, at the end: ships what is left. Its failure becomes the exit status of the mount.
  // all_served: no request will come any more. Else the mount was detached while it was in use.
  virtual Status finish(int64_t timeout_ms, bool all_served) = 0;
};

// By what the servers before have left.
using HooksFactory = std::function<std::unique_ptr<ServerHooks>(SharedState&)>;

}  // namespace walfs
