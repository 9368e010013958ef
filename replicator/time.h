// Wall-clock times as people write them: RFC 3339.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace walfs {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t now_ns();     // Since 1970, UTC.
int64_t steady_ns();  // Of a clock that nobody sets, for durations.

// What both ask instead of the system, in a simulation. Called from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() = 0;
  virtual int64_t steady_ns() = 0;
};
// Null for the system's. The clock must live until another one is set.
void set_clock(Clock* clock);

std::string format_time(int64_t time_ns);  // 2026-03-01T12:30:05.250Z

// RFC 3339 with an offset or Z and any fraction; also with a space for the T. Nothing for anything
// else.
std::optional<int64_t> parse_time(std::string_view text);
// "10 minutes ago", "1 day ago": a whole number of seconds, minutes, hours, days or weeks before
// `now_ns`.
std::optional<int64_t> parse_time_ago(std::string_view text, int64_t now_ns);

}  // namespace walfs
