// Files without a name: open(2) with O_TMPFILE, which libfuse before 3.17 does not pass on.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

#include "fs/mount/operations.h"

namespace walfs {

// FUSE_TMPFILE of <linux/fuse.h>, since Linux 6.1.
constexpr uint32_t kOpcodeUnnamed = 51;

// A file that was made; its node holds one lookup and one handle.
struct Unnamed {
  int error = 0;  // Not 0: there is none.
  NodeId node = 0;
  int flags = 0;
  // The answer to the kernel; `header.len` bytes of it count.
  struct Reply {
    fuse_out_header header;
    fuse_entry_out entry;
    fuse_open_out opened;
  } reply = {};
};

// Serves the request, which has at least a header; its layout is that of FUSE_CREATE. If the kernel
// does not take the reply, the caller gives back the handle and the lookup.
Unnamed make_unnamed(Operations& operations, const uint8_t* request, size_t size);

}  // namespace walfs
