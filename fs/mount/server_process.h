// The server as the keeper sees it: started, watched, and started again when it dies.
//
// Used by the keeper's one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fs/mount/process.h"
#include "fs/mount/shared_state.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class ServerProcess {
 public:
  // What every server inherits; see ServerDescriptor. Borrowed.
  struct Inherited {
    int options = -1;
    int flusher = -1;
    int device = -1;
    int backing = -1;
    int control = -1;
    int lock = -1;
    int state = -1;
  };

  Status open(const Inherited& inherited);
  // Instead of both: a server that another keeper, which this one takes the place of, has started.
  Status adopt(const Inherited& inherited, pid_t server);
  // Starts the first one and waits until it serves, or says why it can't. One that dies says
  // nothing: it is replaced like every other.
  Status start(pid_t flusher);
  // After it was reaped: takes what it has sent last, and plans to start another.
  void died();
  // Starts another if that is due; ends one that hangs.
  void tick(pid_t flusher);
  // Takes a message that has arrived; gives it back if it is for the keeper.
  std::optional<nlohmann::json> receive();
  void send(const nlohmann::json& message) const;
  void kill_now();

  // What a keeper that takes this one's place must be handed: visit(name, descriptor).
  template <typename Visit>
  void for_each_descriptor(Visit&& visit) {
    visit("server_channel", channel_.first);
    visit("nodes_keeper", nodes_.first);
    visit("nodes_server", nodes_.second);
  }

  pid_t pid() const { return pid_; }
  int channel() const { return channel_.first.get(); }
  int nodes_channel() const { return nodes_.first.get(); }
  // How long until tick() has something to do; -1: nothing. Milliseconds.
  int64_t until_tick_ms() const;

 private:
  Status spawn(pid_t flusher);
  void watch();

  Inherited inherited_;
  const SharedState* shared_ = nullptr;
  std::pair<FileDescriptor, FileDescriptor> channel_;
  std::pair<FileDescriptor, FileDescriptor> nodes_;
  pid_t pid_ = -1;
  bool ready_ = false;
  int64_t started_ms_ = 0;
  int64_t ready_ms_ = 0;
  int64_t restart_at_ms_ = 0;  // 0: none is due.
  int64_t pause_ms_ = 0;       // Before the next one, if this one dies early.
  uint64_t served_ = 0;        // At the last look, and since when it has not moved.
  int64_t served_since_ms_ = 0;
  int64_t watched_ms_ = 0;
};

}  // namespace walfs
