// restore, history and verify: what can be done with a replica alone.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/litestream_commands.h"
#include "fs/cli/replica_arguments.h"
#include "fs/cli/size.h"
#include "fs/cli/terminal.h"
#include "replicator/litestream/listing.h"
#include "replicator/replica.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"
#include "replicator/verify.h"

namespace walfs {
namespace {

using litestream::ReplicaKind;
using nlohmann::json;

}  // namespace

Status run_restore_command(const RestoreArguments& arguments) {
  RestoreOptions options;
  WALFS_ASSIGN(options.target, parse_target(arguments.at));
  options.only = arguments.only;
  options.force = arguments.force;
  if (!arguments.json) options.progress = progress_on_terminal();
  WALFS_ASSIGN(const auto store, open_replica(arguments.url, arguments.credentials_file));
  options.cancelled = catch_interrupts();
  WALFS_ASSIGN(const ReplicaKind kind, litestream::recognise_replica(*store));
  if (kind == ReplicaKind::kLitestream) return restore_from_litestream(*store, arguments, options);
  WALFS_ASSIGN(const RestoreReport report, restore(*store, arguments.directory, options));
  if (arguments.json) {
    const json answer = {{"position", report.position.to_string()},
                         {"time", format_time(report.time_ns)},
                         {"files", report.files},
                         {"databases", report.databases},
                         {"bytes", report.bytes},
                         {"directory", arguments.directory}};
    std::printf("%s\n", answer.dump(2, ' ', false, json::error_handler_t::replace).c_str());
  } else {
    std::printf("restored %s (%s, %s) to %s, as of %s (position %s); every checksum is right\n",
                count_of(report.files, "file").c_str(),
                count_of(report.databases, "database").c_str(),
                count_of(report.bytes, "byte").c_str(), arguments.directory.c_str(),
                format_time(report.time_ns).c_str(), report.position.to_string().c_str());
  }
  return {};
}

Status run_history_command(const std::string& url, const std::string& credentials_file,
                           bool as_json) {
  WALFS_ASSIGN(const auto store, open_replica(url, credentials_file));
  WALFS_ASSIGN(const ReplicaKind kind, litestream::recognise_replica(*store));
  if (kind == ReplicaKind::kLitestream) return print_litestream_history(*store, as_json);
  WALFS_ASSIGN(const std::vector<HistoryPoint> points, read_history(*store));
  if (points.empty()) {
    return Error{Errc::kNothingThere, "nothing can be restored from " + store->describe() +
                                          " yet: its first upload has not ended"};
  }
  if (as_json) {
    json list = json::array();
    for (const HistoryPoint& point : points) {
      list.push_back(
          {{"position", point.position.to_string()}, {"time", format_time(point.time_ns)}});
    }
    const json answer = {{"replica", store->describe()}, {"points", std::move(list)}};
    std::printf("%s\n", answer.dump(2, ' ', false, json::error_handler_t::replace).c_str());
    return {};
  }
  std::printf("%s can be restored from %s\n", count_of(points.size(), "point").c_str(),
              store->describe().c_str());
  for (const HistoryPoint& point : points) {
    std::printf("  %s  %s\n", point.position.to_string().c_str(),
                format_time(point.time_ns).c_str());
  }
  return {};
}

Status run_verify_command(const std::string& url, const std::string& credentials_file,
                          bool as_json) {
  WALFS_ASSIGN(const auto store, open_replica(url, credentials_file));
  WALFS_ASSIGN(const ReplicaKind kind, litestream::recognise_replica(*store));
  if (kind == ReplicaKind::kLitestream) {
    return Error{Errc::kUsage,
                 "the replica at " + store->describe() +
                     " is one of Litestream; walfs restore verifies what it reads of it"};
  }
  WALFS_ASSIGN(const VerifyReport report, verify_replica(*store));
  if (as_json) {
    json answer = {{"objects", report.objects},
                   {"bytes", report.bytes},
                   {"points", report.points},
                   {"damaged", report.damaged},
                   {"lost", json::array()}};
    for (const PositionRange& range : report.lost)
      answer["lost"].push_back(
          {{"first", range.first.to_string()}, {"last", range.last.to_string()}});
    std::printf("%s\n", answer.dump(2, ' ', false, json::error_handler_t::replace).c_str());
  } else {
    for (const std::string& what : report.damaged) std::printf("DAMAGED  %s\n", what.c_str());
    for (const PositionRange& range : report.lost)
      std::printf("LOST     points %s to %s\n", range.first.to_string().c_str(),
                  range.last.to_string().c_str());
    std::printf("read %s, %s; %s can be restored\n", count_of(report.objects, "object").c_str(),
                count_of(report.bytes, "byte").c_str(), count_of(report.points, "point").c_str());
  }
  if (report.damaged.empty()) return {};
  return Error{Errc::kDamaged, (report.damaged.size() == 1 ? "one thing is wrong in "
                                                           : std::to_string(report.damaged.size()) +
                                                                 " things are wrong in ") +
                                   store->describe() + "; what depends on it cannot be restored"};
}

}  // namespace walfs
