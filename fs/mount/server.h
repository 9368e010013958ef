// The server: the process that serves the mount's requests.
#pragma once

#include "fs/mount/hooks.h"

namespace walfs {

// How a server exits that hands over to the next one: all is well.
constexpr int kServerHandsOver = 100;

// The process `walfs serve-internal`, with what the keeper left at ServerDescriptor. Returns the
// exit status: 0 when the mount has ended and everything was shipped.
int run_server(const HooksFactory& make_hooks);

}  // namespace walfs
