// Where the keys of an S3 store come from: a file of KEY=VALUE lines, then the environment.
//
// Names, in either place: LITESTREAM_ACCESS_KEY_ID with LITESTREAM_SECRET_ACCESS_KEY, else
// AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and, if given, AWS_SESSION_TOKEN; the region is
// AWS_REGION or AWS_DEFAULT_REGION. No value ever gets into a message.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "replicator/base/result.h"
#include "replicator/stores/sigv4.h"

namespace walfs {

using Settings = std::map<std::string, std::string>;

// KEY=VALUE lines; blank lines, # comments, `export ` and quotes around a value are allowed. Pure.
Result<Settings> parse_settings(std::string_view text);

// Reads the file; kUsage when others may read it, since it holds a secret. {} for "".
Result<Settings> read_settings(const std::string& path);

// The value of a variable, "" when it is not set.
using Lookup = std::function<std::string(const std::string& name)>;
std::string environment_variable(const std::string& name);
// The settings first, then the environment.
std::string find_setting(const Settings& settings, const Lookup& environment,
                         const std::string& name);

// kDenied with the names to set when there are none or half of a pair is missing.
Result<Credentials> find_credentials(const Settings& settings, const Lookup& environment);
// "" when nothing says it.
std::string find_region(const Settings& settings, const Lookup& environment);

}  // namespace walfs
