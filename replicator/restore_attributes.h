// The parts of a restored tree that are not content, made beneath an open directory. Whatever a
// path says, it is resolved beneath that directory and through no symbolic link.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/change.h"

namespace walfs {

// The directory's path, which may be "", and the name in it.
std::pair<std::string, std::string> split_path(const std::string& path);

// "" is the directory itself.
Result<FileDescriptor> open_restored(int directory, const std::string& path, int flags,
                                     mode_t mode = 0);
// A symbolic link, FIFO, socket or device.
Status create_special(int directory, const std::string& path, const Attributes& attributes);
// Owner, mode, extended attributes and times.
Status set_attributes(int directory, const std::string& path, const Attributes& attributes);

}  // namespace walfs
