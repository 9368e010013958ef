#include "replicator/litestream/listing.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <tuple>

#include "replicator/epoch.h"
#include "replicator/litestream/ltx_stream.h"
#include "replicator/litestream/names.h"
#include "replicator/stores/list_objects.h"
#include "replicator/time.h"

namespace walfs::litestream {
namespace {

// Whether a key that begins so is the name of an object.
Result<bool> holds(Store& store, const std::string& prefix,
                   const std::function<bool(std::string_view)>& is_name) {
  bool found = false;
  WALFS_TRY(for_each_object(store, prefix, "", [&](const ObjectInfo& object) {
    found = is_name(object.key);
    return !found;
  }));
  return found;
}

constexpr std::string_view kLtxPrefixes[] = {"ltx/", "000"};

int64_t round_up_to_ms(int64_t time_ns) {
  return time_ns > INT64_MAX - kNsPerMs ? time_ns : (time_ns + kNsPerMs - 1) / kNsPerMs * kNsPerMs;
}

}  // namespace

Result<ReplicaKind> recognise_replica(Store& store) {
  const auto volume = read_volume(store);
  if (volume.ok() || volume.error().code != Errc::kNothingThere) return ReplicaKind::kWalfs;
  const auto is_ltx = [](std::string_view key) { return parse_ltx_name(key).has_value(); };
  const auto is_wal = [](std::string_view key) { return parse_object_name(key).has_value(); };
  for (const std::string_view prefix : kLtxPrefixes) {
    WALFS_ASSIGN(const bool found, holds(store, std::string(prefix), is_ltx));
    if (found) return ReplicaKind::kLitestream;
  }
  WALFS_ASSIGN(const bool found, holds(store, std::string(kGenerationsPrefix), is_wal));
  if (found) return ReplicaKind::kLitestream;
  return Error{Errc::kNothingThere,
               "there is no walfs replica at " + store.describe() +
                   ", and none of Litestream, whose URL is that of the replica of one database"};
}

Result<std::vector<Generation>> list_generations(Store& store) {
  std::map<std::string, Generation> found;
  WALFS_TRY(
      for_each_object(store, std::string(kGenerationsPrefix), "", [&](const ObjectInfo& object) {
        const auto name = parse_object_name(object.key);
        if (!name) return true;
        Generation& generation = found[name->generation];
        generation.name = name->generation;
        auto& objects = name->is_snapshot ? generation.snapshots : generation.pieces;
        objects.push_back({object.key, object.size, round_up_to_ms(object.modified_ns), name->index,
                           name->offset});
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

Result<std::vector<LtxObject>> list_ltx_objects(Store& store) {
  std::vector<LtxObject> found;
  for (const std::string_view prefix : kLtxPrefixes) {
    WALFS_TRY(for_each_object(store, std::string(prefix), "", [&](const ObjectInfo& object) {
      if (const auto name = parse_ltx_name(object.key)) {
        found.push_back({{object.key, object.size, round_up_to_ms(object.modified_ns), 0, 0},
                         name->level,
                         name->first,
                         name->last});
      }
      return true;
    }));
  }
  return found;
}

Status read_ltx_times(Store& store, std::vector<LtxObject>& objects,
                      const RestoreOptions& options) {
  std::vector<Status> done(objects.size());
  std::atomic<size_t> next{0};
  const auto read_time = [&store](LtxObject& object) -> Status {
    const std::string& key = object.object.key;
    WALFS_ASSIGN(const Bytes bytes, store.get_range(key, {0, kLtxHeaderSize}));
    const auto header = parse_ltx_header(bytes);
    if (!header) {
      return Error{Errc::kDamaged,
                   key + " is damaged: it does not begin with the header of an LTX file"};
    }
    object.object.time_ns = header->time_ns;
    return {};
  };
  const auto work = [&] {
    for (size_t i = next++; i < objects.size(); i = next++) {
      done[i] = check_cancelled(options);
      if (done[i].ok()) done[i] = read_time(objects[i]);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : done) WALFS_TRY(status);
  return {};
}

Result<std::vector<PastState>> read_states(Store& store) {
  WALFS_ASSIGN(const auto generations, list_generations(store));
  WALFS_ASSIGN(auto objects, list_ltx_objects(store));
  WALFS_TRY(read_ltx_times(store, objects, {}));
  std::vector<PastState> states = list_states(generations);
  for (PastState& state : list_ltx_states(std::move(objects))) states.push_back(std::move(state));
  std::stable_sort(states.begin(), states.end(),
                   [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
  return states;
}

}  // namespace walfs::litestream
