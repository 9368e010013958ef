// What commands about a replica have in common: where it is, and which point is meant.
#pragma once

#include <memory>
#include <string>

#include "replicator/base/result.h"
#include "replicator/restore_plan.h"
#include "replicator/stores/store.h"

namespace walfs {

// `credentials_file`: "" for the environment only.
Result<std::unique_ptr<Store>> open_replica(const std::string& url,
                                            const std::string& credentials_file);
// A position, an RFC 3339 time, or "10 minutes ago"; "" is the newest point.
Result<RestoreTarget> parse_target(const std::string& at);

}  // namespace walfs
