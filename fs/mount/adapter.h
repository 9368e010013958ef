// The callbacks of libfuse's low-level API, translated to Operations.
#pragma once

#include "fs/mount/fuse_api.h"
#include "fs/mount/operations.h"

namespace walfs {

// Its user data is the Operations that serve the session. No callback throws.
const fuse_lowlevel_ops& fuse_callbacks();

}  // namespace walfs
