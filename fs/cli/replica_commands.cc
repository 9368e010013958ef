// history and verify: what a replica holds, and whether all of it is there.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/json_output.h"
#include "fs/cli/litestream_commands.h"
#include "fs/cli/replica_arguments.h"
#include "fs/cli/size.h"
#include "replicator/history.h"
#include "replicator/litestream/listing.h"
#include "replicator/replica.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"
#include "replicator/verify.h"

namespace walfs {
namespace {

using litestream::ReplicaKind;
using nlohmann::json;

json to_json(const std::vector<PositionRange>& ranges) {
  json list = json::array();
  for (const PositionRange& range : ranges)
    list.push_back({{"first", range.first.to_string()}, {"last", range.last.to_string()}});
  return list;
}

json to_json(const History& history, const std::string& replica) {
  json list = json::array();
  for (const HistoryPoint& point : history.points) {
    list.push_back({{"position", point.position.to_string()},
                    {"time", format_time(point.time_ns)},
                    {"bytes", point.bytes},
                    {"databases", point.databases},
                    {"files", point.files}});
  }
  return {{"replica", replica},
          {"points", std::move(list)},
          {"lost", to_json(history.lost)},
          {"segments", history.segments},
          {"snapshots", history.snapshots},
          {"bytes", history.bytes}};
}

// "12 KiB in 1 database, 2 files".
std::string describe_changes(const HistoryPoint& point) {
  std::string text = describe_size(point.bytes);
  if (point.databases != 0) text += " in " + count_of(point.databases, "database");
  if (point.files != 0)
    text += (point.databases != 0 ? ", " : " in ") + count_of(point.files, "file");
  return text;
}

void print_history(const History& history, const std::string& replica) {
  std::printf("%s can be restored from %s: %s and %s, %s without the chunks\n",
              count_of(history.points.size(), "point").c_str(), replica.c_str(),
              count_of(history.segments, "segment").c_str(),
              count_of(history.snapshots, "snapshot").c_str(),
              describe_size(history.bytes).c_str());
  for (const HistoryPoint& point : history.points) {
    std::printf("  %s  %s  %s\n", point.position.to_string().c_str(),
                format_time(point.time_ns).c_str(), describe_changes(point).c_str());
  }
  for (const PositionRange& range : history.lost)
    std::printf("LOST     points %s to %s, behind a gap in the log\n",
                range.first.to_string().c_str(), range.last.to_string().c_str());
}

}  // namespace

Status run_history_command(const std::string& url, const std::string& credentials_file,
                           bool as_json) {
  WALFS_ASSIGN(const auto store, open_replica(url, credentials_file));
  WALFS_ASSIGN(const ReplicaKind kind, litestream::recognise_replica(*store));
  if (kind == ReplicaKind::kLitestream) return print_litestream_history(*store, as_json);
  WALFS_ASSIGN(const History history, read_history(*store));
  if (history.points.empty()) {
    return Error{Errc::kNothingThere, "nothing can be restored from " + store->describe() +
                                          " yet: its first upload has not ended"};
  }
  if (as_json) {
    print_json(to_json(history, store->describe()));
  } else {
    print_history(history, store->describe());
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
    const json answer = {{"objects", report.objects},
                         {"bytes", report.bytes},
                         {"points", report.points},
                         {"damaged", report.damaged},
                         {"lost", to_json(report.lost)}};
    print_json(answer);
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
