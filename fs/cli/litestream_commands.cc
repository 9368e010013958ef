#include "fs/cli/litestream_commands.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/json_output.h"
#include "fs/cli/size.h"
#include "replicator/litestream/listing.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/restore.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;

}  // namespace

Status restore_from_litestream(Store& store, const RestoreArguments& arguments,
                               const RestoreOptions& options) {
  const std::string name = litestream::database_name(arguments.url);
  WALFS_ASSIGN(const litestream::RestoredDatabase restored,
               litestream::restore_database(store, name, arguments.directory, options));
  if (arguments.json) {
    print_json({{"position", restored.position},
                {"time", format_time(restored.time_ns)},
                {"files", 1},
                {"databases", 1},
                {"bytes", restored.bytes},
                {"directory", arguments.directory},
                {"file", name}});
    return {};
  }
  std::printf(
      "restored %s (%s) to %s/%s from a replica of Litestream, as of %s (position %s); "
      "every checksum is right\n",
      name.c_str(), count_of(restored.bytes, "byte").c_str(), arguments.directory.c_str(),
      name.c_str(), format_time(restored.time_ns).c_str(), restored.position.c_str());
  return {};
}

Status print_litestream_history(Store& store, bool as_json) {
  WALFS_ASSIGN(const auto states, litestream::read_states(store));
  if (states.empty()) {
    return Error{Errc::kNothingThere, "nothing can be restored from " + store.describe() +
                                          ": Litestream's replica there has no snapshot"};
  }
  if (as_json) {
    json list = json::array();
    for (const litestream::PastState& state : states)
      list.push_back({{"position", state.position}, {"time", format_time(state.time_ns)}});
    print_json({{"replica", store.describe()}, {"points", std::move(list)}});
    return {};
  }
  std::printf("%s can be restored from %s, a replica of Litestream\n",
              count_of(states.size(), "point").c_str(), store.describe().c_str());
  for (const litestream::PastState& state : states)
    std::printf("  %s  %s\n", state.position.c_str(), format_time(state.time_ns).c_str());
  return {};
}

}  // namespace walfs
