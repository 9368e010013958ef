#include "replicator/time.h"

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <utility>

namespace walfs {
namespace {

constexpr int kYearMax = 2261;  // Nanoseconds in 64 bits end in 2262.

std::atomic<Clock*> simulated{nullptr};

// Reads exactly `digits` digits from the front of text.
std::optional<int> take_number(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take_char(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text[0]) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<int64_t> take_fraction_ns(std::string_view& text) {
  if (!take_char(text, ".")) return 0;
  int64_t value = 0;
  int64_t unit = kNsPerSecond / 10;
  size_t digits = 0;
  while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
    value += unit * (text[0] - '0');
    unit /= 10;
    ++digits;
    text.remove_prefix(1);
  }
  if (digits == 0) return std::nullopt;
  return value;
}

// Seconds east of UTC.
std::optional<int> take_offset(std::string_view& text) {
  if (take_char(text, "Zz")) return 0;
  const bool west = !text.empty() && text[0] == '-';
  if (!take_char(text, "+-")) return std::nullopt;
  const auto hours = take_number(text, 2);
  if (!hours || !take_char(text, ":")) return std::nullopt;
  const auto minutes = take_number(text, 2);
  if (!minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  const int seconds = *hours * 3600 + *minutes * 60;
  return west ? -seconds : seconds;
}

// In seconds, of "minute" or "minutes".
std::optional<int64_t> unit_seconds(std::string_view name) {
  if (name.ends_with('s')) name.remove_suffix(1);
  constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"second", 1}, {"minute", 60}, {"hour", 3600}, {"day", 86400}, {"week", 604800}};
  for (const auto& [unit, seconds] : kUnits)
    if (name == unit) return seconds;
  return std::nullopt;
}

}  // namespace

void set_clock(Clock* clock) {
  simulated = clock;
}

int64_t now_ns() {
  if (Clock* clock = simulated) return clock->now_ns();
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

int64_t steady_ns() {
  if (Clock* clock = simulated) return clock->steady_ns();
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

std::string format_time(int64_t time_ns) {
  time_t seconds = time_ns / kNsPerSecond;
  int64_t rest_ns = time_ns % kNsPerSecond;
  if (rest_ns < 0) {
    rest_ns += kNsPerSecond;
    --seconds;
  }
  struct tm parts {};
  gmtime_r(&seconds, &parts);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                parts.tm_sec, static_cast<int>(rest_ns / 1'000'000));
  return text.data();
}

std::optional<int64_t> parse_time(std::string_view text) {
  const auto year = take_number(text, 4);
  if (!year || !take_char(text, "-")) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take_char(text, "-")) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day || !take_char(text, "Tt ")) return std::nullopt;
  const auto hour = take_number(text, 2);
  if (!hour || !take_char(text, ":")) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || !take_char(text, ":")) return std::nullopt;
  const auto second = take_number(text, 2);
  if (!second) return std::nullopt;
  const auto fraction = take_fraction_ns(text);
  if (!fraction) return std::nullopt;
  const auto offset = take_offset(text);
  if (!offset || !text.empty()) return std::nullopt;
  struct tm parts {};
  parts.tm_year = *year - 1900;
  parts.tm_mon = *month - 1;
  parts.tm_mday = *day;
  parts.tm_hour = *hour;
  parts.tm_min = *minute;
  parts.tm_sec = *second;
  if (*year < 1970 || *year > kYearMax || *month < 1 || *month > 12 || *day < 1 || *day > 31 ||
      *hour > 23 || *minute > 59 || *second > 60) {
    return std::nullopt;
  }
  const struct tm asked = parts;
  const time_t seconds = timegm(&parts);
  if (parts.tm_mday != asked.tm_mday) return std::nullopt;  // 31 February.
  return (seconds - *offset) * kNsPerSecond + *fraction;
}

std::optional<int64_t> parse_time_ago(std::string_view text, int64_t now_ns) {
  const size_t space = text.find(' ');
  const size_t end = text.rfind(' ');
  if (space == std::string_view::npos || end <= space || text.substr(end) != " ago")
    return std::nullopt;
  int64_t count = 0;
  const char* const digits_end = text.data() + space;
  const auto read = std::from_chars(text.data(), digits_end, count);
  const auto seconds = unit_seconds(text.substr(space + 1, end - space - 1));
  if (read.ec != std::errc() || read.ptr != digits_end || !seconds || count < 0)
    return std::nullopt;
  if (count > now_ns / kNsPerSecond / *seconds) return std::nullopt;  // Before 1970.
  return now_ns - count * *seconds * kNsPerSecond;
}

}  // namespace walfs
