#include "replicator/stores/list_objects.h"

namespace walfs {
namespace {

constexpr size_t kPageSize = 1000;  // What S3 gives at most.

}  // namespace

Status for_each_object(Store& store, const std::string& prefix, std::string after,
                       const std::function<bool(const ObjectInfo&)>& look) {
  while (true) {
    WALFS_ASSIGN(const auto objects, store.list(prefix, after, kPageSize));
    for (const ObjectInfo& object : objects) {
      if (!look(object)) return {};
    }
    if (objects.size() < kPageSize) return {};
    after = objects.back().key;
  }
}

}  // namespace walfs
