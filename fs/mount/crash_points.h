// Places where a test lets the server die as if by kill -9.
//
// WALFS_CRASH_POINTS in the environment, as "executed:50,replied:20", makes one in so many passes
// of a place the last; with "stop" among them the server hangs there instead, and with "servers:4"
// that is so for the first four servers of the mount. Without it a place costs a comparison.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace walfs {

enum class CrashPoint {
  kRead,      // A request was read and nothing of it done.
  kExecuted,  // Its effects are in the backing directory; the reply is not kept yet.
  kKept,      // The reply is kept and not sent.
  kReplied,   // The reply was sent; the request is not done with.
  kCount,
};

// server: the first one of the mount is 1.
void read_crash_points_from_environment(uint32_t server);

namespace detail {
extern std::array<uint32_t, static_cast<size_t>(CrashPoint::kCount)> crash_one_in;
extern int crash_signal;
void perhaps_crash(uint32_t one_in);
}  // namespace detail

inline void crash_point(CrashPoint point) {
  const uint32_t one_in = detail::crash_one_in[static_cast<size_t>(point)];
  if (one_in != 0) [[unlikely]]
    detail::perhaps_crash(one_in);
}

}  // namespace walfs
