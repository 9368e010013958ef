// When and how soon a failed request is tried again. Pure: randomness and time are arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace walfs {

inline constexpr unsigned kRetryDelayBaseMs = 100;
inline constexpr unsigned kRetryDelayMaxMs = 5000;

// The wait before try number `tries_done` + 1: with full jitter, so that clients that failed
// together do not come back together, but not below what the server asked for. Nothing when the
// next try would begin after the budget is spent. `random` is uniform over all its values.
std::optional<unsigned> retry_delay_ms(unsigned tries_done, uint64_t random,
                                       unsigned retry_after_ms, uint64_t elapsed_ms,
                                       unsigned budget_ms);

// The value of a Retry-After header in seconds, as milliseconds; 0 for none, for a date or for
// nonsense. At most an hour.
unsigned parse_retry_after_ms(const std::string& value);

// Seconds since 1970 of "Fri, 24 May 2013 00:00:00 GMT"; nothing for another form.
std::optional<int64_t> parse_http_date(const std::string& value);

}  // namespace walfs
