// At which descriptor numbers the keeper's children find what they inherit.
#pragma once

namespace walfs {

enum ServerDescriptor : int {
  kServerOptions = 3,  // MountOptions as CBOR.
  kServerKeeper,       // Messages with the keeper.
  kServerFlusher,      // Messages with the flusher.
  kServerDevice,
  kServerBacking,
  kServerControl,  // Listening.
  kServerLock,     // Only held: it keeps the lock while the keeper is gone.
  kServerState,    // The memfd of shared_state.h.
  kServerNodes,    // For the descriptors of kept_descriptors.h.
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
