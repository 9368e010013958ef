#include "replicator/stores/store_probe.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

#include "replicator/base/digest.h"

namespace walfs {

Result<bool> conditional_put_works(Store& store) {
  std::array<uint8_t, 8> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return error_from_errno("cannot get a random number", errno);
  }
  const std::string key = "probe/" + to_hex(random);
  const Status first = store.put(key, ObjectBody::of("first"), PutMode::kIfAbsent);
  if (!first.ok()) {
    if (first.error().code == Errc::kUnsupported) return false;
    return first.error();
  }
  const Status second = store.put(key, ObjectBody::of("second"), PutMode::kIfAbsent);
  const Status removed = store.remove(key);
  if (!second.ok() && second.error().code != Errc::kConflict) return second.error();
  if (!removed.ok()) return removed.error();
  return !second.ok();
}

}  // namespace walfs
