// Listing the objects of a file store in the order of their keys.
#pragma once

#include <string>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/stores/store.h"

namespace walfs {

// As Store::list, for the regular files beneath the directory `root`. Names that are no keys
// (beginning with a dot, for instance) and symlinks are passed over. Reads only the directories
// that can hold such keys.
Result<std::vector<ObjectInfo>> list_files(int root, const std::string& prefix,
                                           const std::string& after, size_t limit);

// Removes the regular files of a directory that were last changed before `unix_s`; failures are
// passed over. Takes the directory's descriptor.
void remove_files_older_than(FileDescriptor directory, int64_t unix_s);

}  // namespace walfs
