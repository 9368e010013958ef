// Percent-encoding as AWS Signature Version 4 defines it: everything but A-Z a-z 0-9 - . _ ~
// becomes %XX in upper case. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace walfs {

// A query parameter or a header, neither encoded.
using NameValue = std::pair<std::string, std::string>;

enum class Slashes { kEncode, kKeep };
std::string uri_encode(std::string_view text, Slashes slashes);

enum class Plus { kPlus, kSpace };  // What a '+' stands for.
// Nothing for a '%' without two hex digits.
std::optional<std::string> uri_decode(std::string_view text, Plus plus);

// "a=1&b=" in the order of the encoded names, then values: what is signed and also what is sent.
std::string canonical_query(const std::vector<NameValue>& query);

}  // namespace walfs
