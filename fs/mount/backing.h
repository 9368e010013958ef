// The backing directory: opened once, before anything is mounted over it, and locked against a
// second mount.
#pragma once

#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

struct BackingDirectory {
  FileDescriptor directory;  // O_RDONLY
  FileDescriptor state;      // `.walfs` in it, 0700.
  FileDescriptor lock;       // Holds the lock as long as any copy of it is open.
};

// Opens `source`, makes `.walfs` and takes the lock. kConflict names the holder.
Result<BackingDirectory> open_backing(const std::string& source, const std::string& mountpoint);

// The real path; of a mount whose server died, whose root cannot be looked at, too.
Result<std::string> real_directory_path(const std::string& path);

// Refuses what cannot work: a mount point inside the source, a source that is mounted by walfs
// already, other filesystems mounted beneath the source. Takes away what a crashed mount left.
Status check_places(const std::string& source, const std::string& mountpoint);

// Refuses a file that we would have to reach through our own mount: nobody would answer. `what` is
// for the message. The file need not exist.
Status check_outside(const std::string& what, const std::string& path, const std::string& source,
                     const std::string& mountpoint);

}  // namespace walfs
