#include "fs/cli/size.h"

#include <sstream>
#include <utility>

namespace walfs {

int64_t parse_size(const std::string& text) {
  constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},         {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
      {"TiB", 0x1p40}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  std::istringstream in(text);
  double number = 0;
  std::string unit;
  if (!(in >> number) || number < 0) return -1;
  in >> unit;
  for (const auto& [name, bytes] : kUnits) {
    const double size = number * bytes;
    if (unit == name) return size <= 0x1p60 ? static_cast<int64_t>(size) : -1;
  }
  return -1;
}

std::string describe_size(uint64_t bytes) {
  if (bytes < 10240) return count_of(bytes, "byte");
  if (bytes < (uint64_t{10} << 20)) return std::to_string(bytes >> 10) + " KiB";
  return std::to_string(bytes >> 20) + " MiB";
}

std::string count_of(uint64_t number, const std::string& noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

}  // namespace walfs
