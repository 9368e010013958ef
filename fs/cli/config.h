// The configuration file of `walfs mount --config FILE`: TOML, the command line's names.
#pragma once

#include <string>

#include "fs/mount/options.h"
#include "replicator/base/result.h"

namespace CLI {
class App;
}

namespace walfs {

// Sets what the file names and the command line did not. kUsage for a name or value that is not
// known.
Status apply_config(const std::string& path, const CLI::App& command, MountOptions& options);

// The highest --max-request-rate.
constexpr int kRequestRateMax = 10000;

// 250ms, 5s, 2m, 1h, 7d, or a number of seconds; -1 for anything else.
int64_t parse_duration_ms(const std::string& text);
// What --retention takes: a duration of an hour at least, or "forever", which is 0; -1 for anything
// else.
int64_t parse_retention_ms(const std::string& text);

// The shortest --snapshot-interval.
constexpr int64_t kSnapshotIntervalMinMs = 60'000;
constexpr int64_t kSnapshotIntervalMaxMs = int64_t{366} * 24 * 3600 * 1000;

}  // namespace walfs
