#include "replicator/litestream/restore.h"

#include <unistd.h>

#include <cerrno>
#include <optional>

#include "replicator/litestream/database_file.h"
#include "replicator/litestream/listing.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/replay.h"
#include "replicator/restore_target.h"

namespace walfs::litestream {
namespace {

Status check_options(const RestoreOptions& options) {
  if (!options.only.empty()) {
    return Error{Errc::kUsage,
                 "--only cannot be used with a replica of Litestream, which holds one database"};
  }
  if (options.target.position) {
    return Error{
        Errc::kUsage,
        "--at takes a time such as 2026-03-01T12:30:05Z for a replica of Litestream, which "
        "has no positions of walfs"};
  }
  return {};
}

// What both formats hold of the time. Litestream, too, goes on with a replica of v0.3 as one of
// v0.5.
struct Choice {
  std::optional<Plan> wal;
  std::optional<LtxPlan> ltx;
};

Result<Choice> choose(Store& store, const RestoreOptions& options) {
  WALFS_ASSIGN(const auto generations, list_generations(store));
  WALFS_ASSIGN(auto objects, list_ltx_objects(store));
  const auto until_ns = options.target.time_ns;
  if (until_ns) WALFS_TRY(read_ltx_times(store, objects, options));
  auto ltx = make_ltx_plan(std::move(objects), until_ns);
  auto wal = make_plan(generations, until_ns);
  for (const Error* error :
       {ltx.ok() ? nullptr : &ltx.error(), wal.ok() ? nullptr : &wal.error()}) {
    if (error != nullptr && error->code != Errc::kNothingThere) return *error;
  }
  if (!wal.ok() && !ltx.ok()) return generations.empty() ? ltx.error() : wal.error();
  Choice choice;
  if (wal.ok() && (!ltx.ok() || wal->time_ns > ltx->time_ns)) {
    choice.wal = *std::move(wal);
  } else {
    choice.ltx = *std::move(ltx);
  }
  return choice;
}

}  // namespace

Result<RestoredDatabase> restore_database(Store& store, const std::string& name,
                                          const std::string& directory,
                                          const RestoreOptions& options) {
  WALFS_TRY(check_options(options));
  WALFS_ASSIGN(RestoreDirectory target, RestoreDirectory::open(directory, options.force, store));
  WALFS_ASSIGN(Choice choice, choose(store, options));
  WALFS_TRY(target.begin());
  WALFS_TRY(target.remove_earlier_content());
  WALFS_ASSIGN(DatabaseFile database, DatabaseFile::create(target.fd(), name));
  RestoredDatabase restored;
  if (choice.wal) {
    WALFS_TRY(replay_plan(store, *choice.wal, database, target.fd(), options));
    restored = {choice.wal->position, choice.wal->time_ns, database.size()};
  } else {
    WALFS_TRY(replay_ltx_plan(store, *choice.ltx, database, options));
    restored = {txid_text(choice.ltx->last), choice.ltx->time_ns, database.size()};
  }
  WALFS_TRY(database.finish("the database at " + restored.position, options.cancelled));
  if (::fsync(target.fd()) != 0)
    return error_from_errno("cannot flush the restored directory", errno);
  WALFS_TRY(target.commit());
  return restored;
}

}  // namespace walfs::litestream
