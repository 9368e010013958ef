// Opening files beneath a directory and nowhere else: no "..", no symlink, no /proc link is
// followed (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, Linux 5.6).
#pragma once

#include <cstdint>
#include <string>

#include "replicator/base/file_descriptor.h"

namespace walfs {

// `path` is relative; "" is the root itself. Invalid with errno on failure, as open(2).
FileDescriptor open_beneath(int root, const std::string& path, int flags, unsigned mode = 0);

}  // namespace walfs
