// At which descriptor numbers the keeper's children find what they inherit.
#pragma once

#include <cstddef>

namespace walfs {

// The state memfd begins with the volume's count of events (a uint64_t), which the flusher reads;
// the rest of it is the server's.
constexpr size_t kSharedStateSize = 4096;

enum ServerDescriptor : int {
  kServerOptions = 3,  // MountOptions as JSON.
  kServerKeeper,       // Messages with the keeper.
  kServerFlusher,      // Messages with the flusher.
  kServerDevice,
  kServerBacking,
  kServerControl,  // Listening.
  kServerLock,     // Only held: it keeps the lock while the keeper is gone.
  kServerState,    // memfd for what must survive the server.
  kServerEnd,
};

enum FlusherDescriptor : int {
  kFlusherOptions = 3,
  kFlusherKeeper,
  kFlusherServer,
  kFlusherState,  // The memfd again.
  kFlusherEnd,
};

}  // namespace walfs
