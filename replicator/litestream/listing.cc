#include "replicator/litestream/listing.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <tuple>

#include "replicator/epoch.h"
#include "replicator/litestream/names.h"

namespace walfs::litestream {
namespace {

constexpr size_t kListLimit = 1000;

// Until `look` has seen enough and returns false.
Status for_each_object(Store& store, const std::string& prefix,
                       const std::function<bool(const ObjectInfo&)>& look) {
  std::string after;
  while (true) {
    WALFS_ASSIGN(const auto objects, store.list(prefix, after, kListLimit));
    for (const ObjectInfo& object : objects) {
      if (!look(object)) return {};
    }
    if (objects.size() < kListLimit) return {};
    after = objects.back().key;
  }
}

// Whether a key that begins so is the name of an object.
Result<bool> holds(Store& store, const std::string& prefix,
                   const std::function<bool(std::string_view)>& is_name) {
  bool found = false;
  WALFS_TRY(for_each_object(store, prefix, [&](const ObjectInfo& object) {
    found = is_name(object.key);
    return !found;
  }));
  return found;
}

Result<bool> holds_ltx(Store& store) {
  for (const std::string prefix : {"ltx/", "000"}) {
    WALFS_ASSIGN(const bool found, holds(store, prefix, is_ltx_name));
    if (found) return true;
  }
  return false;
}

int64_t round_up_to_ms(int64_t time_ns) {
  constexpr int64_t kMs = 1'000'000;
  return time_ns > INT64_MAX - kMs ? time_ns : (time_ns + kMs - 1) / kMs * kMs;
}

}  // namespace

Result<ReplicaKind> recognise_replica(Store& store) {
  const auto volume = read_volume(store);
  if (volume.ok() || volume.error().code != Errc::kNothingThere) return ReplicaKind::kWalfs;
  WALFS_ASSIGN(const bool ltx, holds_ltx(store));
  if (ltx) {
    return Error{Errc::kUnsupported,
                 "at " + store.describe() +
                     " is a replica of Litestream v0.5, which this walfs cannot read yet"};
  }
  const auto is_name = [](std::string_view key) { return parse_object_name(key).has_value(); };
  WALFS_ASSIGN(const bool found, holds(store, std::string(kGenerationsPrefix), is_name));
  if (found) return ReplicaKind::kLitestream;
  return Error{Errc::kNothingThere,
               "there is no walfs replica at " + store.describe() +
                   ", and none of Litestream, whose URL is that of the replica of one database"};
}

Result<std::vector<Generation>> list_generations(Store& store) {
  std::map<std::string, Generation> found;
  WALFS_TRY(for_each_object(store, std::string(kGenerationsPrefix), [&](const ObjectInfo& object) {
    const auto name = parse_object_name(object.key);
    if (!name) return true;
    Generation& generation = found[name->generation];
    generation.name = name->generation;
    auto& objects = name->is_snapshot ? generation.snapshots : generation.pieces;
    objects.push_back(
        {object.key, object.size, round_up_to_ms(object.modified_ns), name->index, name->offset});
    return true;
  }));
  std::vector<Generation> generations;
  for (auto& [name, generation] : found) {
    // Offsets have eight digits or more, so that the order of the keys is not always theirs.
    for (auto* objects : {&generation.snapshots, &generation.pieces}) {
      std::sort(objects->begin(), objects->end(), [](const Object& a, const Object& b) {
        return std::tie(a.index, a.offset) < std::tie(b.index, b.offset);
      });
    }
    generations.push_back(std::move(generation));
  }
  return generations;
}

}  // namespace walfs::litestream
