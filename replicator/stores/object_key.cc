#include "replicator/stores/object_key.h"

#include <algorithm>

namespace walfs {
namespace {

bool is_key_character(char c) {
  return c > ' ' && c < 0x7f && c != '\\';
}

// A name in a message: what cannot be printed would garble the terminal or the log.
std::string shown(std::string_view key) {
  std::string out(key.substr(0, 100));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c >= 0x7f; }, '?');
  return out;
}

}  // namespace

bool is_valid_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeySize || key.back() == '/') return false;
  size_t parts = 0;
  bool at_part_start = true;
  for (const char c : key) {
    if (!is_key_character(c)) return false;
    if (at_part_start && (c == '/' || c == '.')) return false;
    if (at_part_start) ++parts;
    at_part_start = c == '/';
  }
  return parts <= kMaxKeyParts;
}

Status check_key(std::string_view key) {
  if (is_valid_key(key)) return {};
  return Error{Errc::kUsage, "\"" + shown(key) + "\" is not a valid object key"};
}

Status check_key_prefix(std::string_view prefix) {
  if (prefix.empty()) return {};
  std::string completed(prefix);
  completed.push_back('x');
  if (is_valid_key(completed)) return {};
  return Error{Errc::kUsage, "\"" + shown(prefix) + "\" is not the beginning of an object key"};
}

}  // namespace walfs
