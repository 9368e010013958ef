// All objects of a prefix, page after page.
#pragma once

#include <functional>
#include <string>

#include "replicator/stores/store.h"

namespace walfs {

// Calls `look` for each object whose key starts with `prefix` and is greater than `after`, in order
// of their bytes, until it returns false.
Status for_each_object(Store& store, const std::string& prefix, std::string after,
                       const std::function<bool(const ObjectInfo&)>& look);

}  // namespace walfs
