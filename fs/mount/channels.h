// At which descriptor numbers the keeper's children find what they inherit.
#pragma once

namespace walfs {

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
  kFlusherEnd,
};

}  // namespace walfs
