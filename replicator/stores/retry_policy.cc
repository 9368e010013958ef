#include "replicator/stores/retry_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace walfs {

std::optional<unsigned> retry_delay_ms(unsigned tries_done, uint64_t random,
                                       unsigned retry_after_ms, uint64_t elapsed_ms,
                                       unsigned budget_ms) {
  const unsigned doublings = std::min(tries_done > 0 ? tries_done - 1 : 0, 10U);
  const unsigned ceiling = std::min(kRetryDelayBaseMs << doublings, kRetryDelayMaxMs);
  const auto jitter = static_cast<unsigned>(random % (ceiling + 1));
  const unsigned delay = std::max(jitter, retry_after_ms);
  if (elapsed_ms + delay >= budget_ms) return std::nullopt;
  return delay;
}

unsigned parse_retry_after_ms(const std::string& value) {
  constexpr unsigned kMaxSeconds = 3600;
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc() || end != value.data() + value.size()) return 0;
  return std::min(seconds, kMaxSeconds) * 1000;
}

std::optional<int64_t> parse_http_date(const std::string& value) {
  static constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  struct tm parts {};
  char month[4] = "";
  // NOLINTNEXTLINE(cert-err34-c): every number is checked below by its range.
  if (value.size() > 64 ||
      std::sscanf(value.c_str(), "%*3s, %2d %3s %4d %2d:%2d:%2d GMT", &parts.tm_mday, month,
                  &parts.tm_year, &parts.tm_hour, &parts.tm_min, &parts.tm_sec) != 6) {
    return std::nullopt;
  }
  const auto at = std::find_if(kMonths.begin(), kMonths.end(), [&month](const char* name) {
    return std::strcmp(name, month) == 0;
  });
  const bool in_range = at != kMonths.end() && parts.tm_mday >= 1 && parts.tm_mday <= 31 &&
                        parts.tm_year >= 1970 && parts.tm_hour >= 0 && parts.tm_hour < 24 &&
                        parts.tm_min >= 0 && parts.tm_min < 60 && parts.tm_sec >= 0 &&
                        parts.tm_sec <= 60;
  if (!in_range) return std::nullopt;
  parts.tm_mon = static_cast<int>(at - kMonths.begin());
  parts.tm_year -= 1900;
  return timegm(&parts);
}

}  // namespace walfs
