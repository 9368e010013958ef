// Files without a name: open(2) with O_TMPFILE, which libfuse before 3.17 does not pass on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/mount/operations.h"

namespace walfs {

// FUSE_TMPFILE of <linux/fuse.h>, since Linux 6.1.
constexpr uint32_t kOpcodeUnnamed = 51;

// A file that was made; its node holds one lookup and one handle.
struct Unnamed {
  int error = 0;  // Not 0: there is none.
  NodeId node = 0;
  int flags = 0;
  std::vector<uint8_t> reply;  // The answer to the kernel.
};

// Serves the request, whose layout is that of FUSE_CREATE. If the kernel does not take the reply,
// the caller gives back the handle and the lookup.
Unnamed make_unnamed(Operations& operations, const uint8_t* request, size_t size);

}  // namespace walfs
