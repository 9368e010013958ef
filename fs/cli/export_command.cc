// export: moves out to Litestream.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/json_output.h"
#include "fs/cli/replica_arguments.h"
#include "fs/cli/size.h"
#include "fs/cli/terminal.h"
#include "replicator/litestream/export.h"
#include "replicator/litestream/listing.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;

// Litestream encodes what is unusual in a URL, and takes the result for the name of the directory:
// there it finds only names without anything unusual.
bool has_url(const std::string& path) {
  return std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::strchr("/-_.~$&+,:;=@!'()*[]", c) != nullptr;
  });
}

std::string path_of(const litestream::ExportReport& report,
                    const litestream::ExportedDatabase& database) {
  return report.directory + "/" + database.path;
}

uint64_t total_bytes(const litestream::ExportReport& report) {
  uint64_t sum = 0;
  for (const auto& database : report.databases) sum += database.bytes;
  return sum;
}

void print_report_as_json(const litestream::ExportReport& report) {
  json answer = {{"position", report.position.to_string()},
                 {"time", format_time(report.time_ns)},
                 {"directory", report.directory},
                 {"databases", json::array()},
                 {"bytes", total_bytes(report)},
                 {"other_files", report.other_files}};
  for (const auto& database : report.databases) {
    const std::string path = path_of(report, database);
    json entry = {{"path", database.path}, {"bytes", database.bytes}};
    entry["url"] = has_url(path) ? json("file://" + path) : json();
    answer["databases"].push_back(std::move(entry));
  }
  print_json(answer);
}

void print_text(const litestream::ExportReport& report) {
  std::printf("exported %s (%s) to %s for Litestream, as of %s (position %s)\n",
              count_of(report.databases.size(), "database").c_str(),
              count_of(total_bytes(report), "byte").c_str(), report.directory.c_str(),
              format_time(report.time_ns).c_str(), report.position.to_string().c_str());
  for (const auto& database : report.databases) {
    const std::string path = path_of(report, database);
    std::printf("  %s%s\n", has_url(path) ? "file://" : "", printable(path).c_str());
  }
  if (report.other_files > 0) {
    std::printf("%s %s not part of a Litestream replica; walfs restore has %s\n",
                count_of(report.other_files, "other file").c_str(),
                report.other_files == 1 ? "is" : "are", report.other_files == 1 ? "it" : "them");
  }
}

}  // namespace

Status run_export_command(const ExportArguments& arguments) {
  if (arguments.format != "litestream") {
    return Error{Errc::kUsage, "there is no format \"" + printable(arguments.format) +
                                   "\" to export to; --format litestream is what there is"};
  }
  RestoreOptions options;
  WALFS_ASSIGN(options.target, parse_target(arguments.at));
  options.only = arguments.only;
  WALFS_ASSIGN(const auto store, open_replica(arguments.url, arguments.credentials_file));
  options.cancelled = catch_interrupts();
  if (!arguments.json) options.progress = progress_on_terminal();
  WALFS_ASSIGN(const auto kind, litestream::recognise_replica(*store));
  if (kind == litestream::ReplicaKind::kLitestream) {
    return Error{Errc::kUsage, "the replica at " + store->describe() +
                                   " is one of Litestream already; there is nothing to export"};
  }
  WALFS_ASSIGN(const litestream::ExportReport report,
               litestream::export_databases(*store, arguments.directory, options));
  if (arguments.json) {
    print_report_as_json(report);
  } else {
    print_text(report);
  }
  return {};
}

}  // namespace walfs
