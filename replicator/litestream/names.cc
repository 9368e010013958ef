#include "replicator/litestream/names.h"

#include <algorithm>
#include <cstdio>

#include "replicator/stores/store_url.h"

namespace walfs::litestream {
namespace {

constexpr size_t kFileNameSizeMax = 200;  // The names beside a database are longer by some bytes.

// Takes as many lower-case hex digits as there are, from `least` to `most`.
std::optional<uint64_t> take_hex(std::string_view& text, size_t least, size_t most) {
  uint64_t value = 0;
  size_t digits = 0;
  for (; digits < std::min(most, text.size()); ++digits) {
    const char c = text[digits];
    const bool decimal = c >= '0' && c <= '9';
    if (!decimal && (c < 'a' || c > 'f')) break;
    value = value << 4 | static_cast<uint64_t>(decimal ? c - '0' : c - 'a' + 10);
  }
  if (digits < least) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

std::string last_part(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace

std::optional<ObjectName> parse_object_name(std::string_view key) {
  ObjectName name;
  if (!take(key, kGenerationsPrefix)) return std::nullopt;
  name.generation = std::string(key.substr(0, 16));
  if (!take_hex(key, 16, 16) || !take(key, "/")) return std::nullopt;
  name.is_snapshot = take(key, "snapshots/");
  if (!name.is_snapshot && !take(key, "wal/")) return std::nullopt;
  const auto index = take_hex(key, 8, 8);
  if (!index) return std::nullopt;
  name.index = static_cast<uint32_t>(*index);
  if (name.is_snapshot) return key == ".snapshot.lz4" ? std::optional(name) : std::nullopt;
  if (!take(key, "_")) return std::nullopt;
  const auto offset = take_hex(key, 8, 16);
  if (!offset || key != ".wal.lz4") return std::nullopt;
  name.offset = *offset;
  return name;
}

std::optional<LtxName> parse_ltx_name(std::string_view key) {
  const size_t digits = take(key, "ltx/") ? 1 : 4;
  const auto level = take_hex(key, digits, digits);
  if (!level || *level > kLtxSnapshotLevel || !take(key, "/")) return std::nullopt;
  const auto first = take_hex(key, 16, 16);
  if (!first || !take(key, "-")) return std::nullopt;
  const auto last = take_hex(key, 16, 16);
  if (!last || key != ".ltx" || *first == 0 || *first > *last) return std::nullopt;
  return LtxName{static_cast<uint32_t>(*level), *first, *last};
}

std::string ltx_level_text(uint32_t level) {
  return "ltx/" + std::to_string(level);
}

std::string ltx_name_text(const LtxName& name) {
  return ltx_level_text(name.level) + "/" + txid_text(name.first) + "-" + txid_text(name.last) +
         ".ltx";
}

std::string position_text(std::string_view generation, uint32_t index) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "/%08x", index);
  return std::string(generation) + digits;
}

std::string position_text(std::string_view generation, uint32_t index, uint64_t offset) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "/%08llx", static_cast<unsigned long long>(offset));
  return position_text(generation, index) + digits;
}

std::string txid_text(uint64_t transaction) {
  char digits[24];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(transaction));
  return digits;
}

std::string database_name(const std::string& url) {
  const auto parsed = parse_store_url(url);
  std::string name;
  if (parsed.ok()) {
    const auto* file = std::get_if<FileUrl>(&*parsed);
    name = last_part(file != nullptr ? file->path : std::get<S3Url>(*parsed).prefix);
  }
  const bool printable = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == 0x7f;
  });
  const bool usable =
      !name.empty() && name.size() <= kFileNameSizeMax && name != "." && name != ".." && printable;
  return usable ? name : "database.db";
}

}  // namespace walfs::litestream
