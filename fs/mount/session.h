// One FUSE connection: reads requests from the device with several threads and answers them
// through libfuse's low-level API.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "fs/mount/operations.h"
#include "fs/mount/request_journal.h"
#include "replicator/base/result.h"

namespace walfs {

struct SessionOptions {
  int threads = 8;      // kSlotsMax at most.
  int64_t spin_us = 0;  // How long one idle thread polls the device before it sleeps.
  // Serve requests at real-time priority: an application that waits in fsync(2) must not wait for
  // busy processes, too.
  bool realtime = false;
};

class Session {
 public:
  // device_fd: /dev/fuse after mount(2), or one end of a SOCK_SEQPACKET pair whose other end plays
  // the kernel. It is borrowed and must be blocking. The rest must outlive the session.
  static Result<std::unique_ptr<Session>> create(int device_fd, Operations& operations,
                                                 RequestJournal& journal,
                                                 const SessionOptions& options);
  virtual ~Session() = default;
  // Reads and answers the kernel's first request; or agrees to what a server that died has
  // answered.
  virtual Status handshake() = 0;
  // Does what a server that died has left, then serves until the mount is gone. Call after
  // handshake().
  virtual Status run() = 0;
  // Returns once no request is queued or being served, or after the timeout. Any thread.
  virtual void wait_until_idle(int64_t timeout_ms) = 0;
  // How many requests of each opcode were read, for measurements: "WRITE" -> 12.
  virtual void count_requests(const std::function<void(uint32_t opcode, uint64_t)>& visit) = 0;
};

// Whether the kernel of the mount sends again what nobody has answered (Linux 6.9).
bool kernel_can_resend(const InitExchange& exchange);

// Whether a server that dies can be replaced: libfuse must let us see the replies.
bool can_replace_server();

}  // namespace walfs
