// Sizes and counts as people write them.
#pragma once

#include <cstdint>
#include <string>

namespace walfs {

// 64KiB, 512MiB, 1GiB, 2TiB, the same with KB, MB, GB and TB by thousands, or a number of bytes; -1
// for anything else.
int64_t parse_size(const std::string& text);
// 12345 bytes as "12 KiB".
std::string describe_size(uint64_t bytes);
// "1 point", "2 points".
std::string count_of(uint64_t number, const std::string& noun);

// What --spool-limit may be.
constexpr int64_t kSpoolLimitMin = int64_t{64} << 10;
constexpr int64_t kSpoolLimitMax = int64_t{1} << 50;

}  // namespace walfs
