// The attributes of a backing file as they go into the log.
#pragma once

#include <optional>

#include "replicator/change.h"

namespace walfs {

// By a descriptor that may be O_PATH. Nothing if the file can't be looked at (it is being removed).
// Extended attributes of the namespaces that a restore could not set again (system.* but ACLs) are
// left out.
std::optional<Attributes> read_attributes(int path_fd);

}  // namespace walfs
