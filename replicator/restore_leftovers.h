// What an interrupted restore has left in its new directory, and what of it the next one can use.
#pragma once

#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/restore_plan.h"

namespace walfs {

// Removes all that the plan does not have at the same path: what is left are directories and
// regular files of one name, which their owner can read and write. Whether their content is right
// is not looked at. `directory` is private to its owner.
Status keep_what_is_planned(const std::string& directory, const RestorePlan& plan,
                            const std::vector<PlannedPath>& paths);

}  // namespace walfs
