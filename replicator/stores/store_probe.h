// Whether a store can be trusted with PutMode::kIfAbsent.
#pragma once

#include "replicator/base/result.h"
#include "replicator/stores/store.h"

namespace walfs {

// Puts an object under probe/ twice and removes it again. False when the second put is accepted too
// (some S3 services ignore the condition) or when the store says that it has no conditions.
Result<bool> conditional_put_works(Store& store);

}  // namespace walfs
