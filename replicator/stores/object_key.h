// The rules for keys, checked by every store. Pure.
#pragma once

#include <string>
#include <string_view>

#include "replicator/base/result.h"

namespace walfs {

inline constexpr size_t kMaxKeySize = 512;
inline constexpr size_t kMaxKeyParts = 32;

// Printable ASCII without spaces or backslashes; parts joined by single slashes, none empty or
// starting with a dot (a file store keeps its own files under such names).
bool is_valid_key(std::string_view key);

// kUsage for a key that breaks the rules.
Status check_key(std::string_view key);

// The same for the prefix of a list: the beginning of a valid key.
Status check_key_prefix(std::string_view prefix);

}  // namespace walfs
