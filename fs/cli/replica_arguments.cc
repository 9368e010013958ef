#include "fs/cli/replica_arguments.h"

#include "replicator/time.h"

namespace walfs {

Result<std::unique_ptr<Store>> open_replica(const std::string& url,
                                            const std::string& credentials_file) {
  StoreOptions options;
  options.credentials_file = credentials_file;
  return open_store(url, options, /*create=*/false);
}

Result<RestoreTarget> parse_target(const std::string& at) {
  RestoreTarget target;
  if (at.empty()) return target;
  target.position = Position::parse(at);
  if (target.position) return target;
  target.time_ns = parse_time(at);
  if (!target.time_ns) target.time_ns = parse_time_ago(at, now_ns());
  if (target.time_ns) return target;
  return Error{
      Errc::kUsage,
      "--at takes a position (16 hex digits, as sync and history print them) or a time such as "
      "2026-03-01T12:30:05Z or \"10 minutes ago\", not \"" +
          at + "\""};
}

}  // namespace walfs
