// restore: a directory from its replica, once, or for as long as it is to follow.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "fs/cli/commands.h"
#include "fs/cli/json_output.h"
#include "fs/cli/litestream_commands.h"
#include "fs/cli/replica_arguments.h"
#include "fs/cli/size.h"
#include "fs/cli/terminal.h"
#include "replicator/follow.h"
#include "replicator/litestream/listing.h"
#include "replicator/restore.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using litestream::ReplicaKind;
using nlohmann::json;

std::string describe(const RestoreReport& report) {
  return count_of(report.files, "file") + " (" + count_of(report.databases, "database") + ", " +
         count_of(report.bytes, "byte") + ")";
}

std::string describe(Position position, int64_t time_ns) {
  return format_time(time_ns) + " (position " + position.to_string() + ")";
}

json to_json(const RestoreReport& report, const std::string& directory) {
  return {{"position", report.position.to_string()},
          {"time", format_time(report.time_ns)},
          {"files", report.files},
          {"databases", report.databases},
          {"bytes", report.bytes},
          {"directory", directory}};
}

void print_line(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

Status restore_once(Store& store, const RestoreArguments& arguments, const RestoreOptions& options,
                    Position& position) {
  WALFS_ASSIGN(const RestoreReport report, restore(store, arguments.directory, options));
  position = report.position;
  if (arguments.json) {
    print_json(to_json(report, arguments.directory));
  } else {
    print_line("restored " + describe(report) + " to " + arguments.directory + ", as of " +
               describe(report.position, report.time_ns) + "; every checksum is right");
  }
  return {};
}

Status preview(Store& store, const RestoreArguments& arguments, const RestoreOptions& options) {
  WALFS_ASSIGN(const RestorePreview preview, preview_restore(store, arguments.directory, options));
  if (arguments.json) {
    json answer = to_json(preview.report, arguments.directory);
    answer["dry_run"] = true;
    answer["fetches"] = preview.fetches;
    answer["bytes_to_fetch_max"] = preview.bytes_max;
    print_json(answer);
    return {};
  }
  print_line("would restore " + describe(preview.report) + " to " + arguments.directory +
             ", as of " + describe(preview.report.position, preview.report.time_ns));
  print_line("would fetch at most " + count_of(preview.bytes_max, "byte") + " with " +
             count_of(preview.fetches, "request"));
  return {};
}

// A directory that follows: what is told of it, and for how long it waits.
class FollowCommand {
 public:
  FollowCommand(Store& store, const RestoreArguments& arguments, RestoreOptions options,
                FollowPlace& place)
      : store_(store), arguments_(arguments), options_(std::move(options)), place_(place) {}

  // What keeps the first restore from being made is told at once; later ones are tried again.
  Status run() {
    Status done = restore_and_follow();
    while (followed_ && !interrupted() && (done.ok() || may_be_asked_again(done.error().code))) {
      if (!done.ok()) tell_once(done.error().message);
      wait();
      options_.force = true;
      done = restore_and_follow();
    }
    return done;
  }

 private:
  Status restore_and_follow() {
    Position position;
    WALFS_TRY(restore_once(store_, arguments_, options_, position));
    WALFS_ASSIGN(Follower follower, Follower::start(store_, place_, position));
    followed_ = true;
    reported_ = position;
    return follow(follower);
  }
  // Ends when it is told to, or when the directory is to be restored anew.
  Status follow(Follower& follower) {
    std::fprintf(stderr, "walfs: %s follows; SIGINT or SIGTERM ends it between two points\n",
                 arguments_.directory.c_str());
    while (!interrupted()) {
      const auto changed = follower.catch_up(options_.cancelled);
      if (!changed.ok() && may_be_asked_again(changed.error().code)) {
        tell_once(changed.error().message);
      } else if (!changed.ok() && is_to_be_restored_anew(changed.error().code)) {
        tell_once(changed.error().message + "; restoring it anew");
        return {};
      } else if (!changed.ok()) {
        return Error{changed.error().code, changed.error().message + "; " + arguments_.directory +
                                               " may be between two points: restore it anew"};
      } else {
        if (!told_.empty()) tell_once("");
      }
      report(follower);
      wait();
    }
    if (!arguments_.json)
      print_line("stopped; " + arguments_.directory + " is as of " +
                 describe(follower.position(), follower.time_ns()));
    return {};
  }
  static bool may_be_asked_again(Errc code) {
    return code == Errc::kRetry || code == Errc::kDenied || code == Errc::kNothingThere ||
           code == Errc::kNoSpace || code == Errc::kCancelled;
  }
  static bool is_to_be_restored_anew(Errc code) {
    return code == Errc::kConflict || code == Errc::kUnsupported;
  }
  // The directory's position, when it is another one than was told last.
  void report(const Follower& follower) {
    if (std::exchange(reported_, follower.position()) == follower.position()) return;
    if (arguments_.json) {
      print_json({{"position", follower.position().to_string()},
                  {"time", format_time(follower.time_ns())}});
    } else {
      print_line("as of " + describe(follower.position(), follower.time_ns()));
    }
  }
  bool interrupted() const { return *options_.cancelled; }
  // A store that stays away is told of once, and once that it is back.
  void tell_once(const std::string& message) {
    if (message == told_ || interrupted()) return;
    std::fprintf(stderr, "walfs: %s\n", message.empty() ? "it goes on" : message.c_str());
    told_ = message;
  }
  void wait() const {
    constexpr int64_t kStepMs = 50;
    for (int64_t left = arguments_.poll_interval_ms; left > 0 && !interrupted(); left -= kStepMs)
      std::this_thread::sleep_for(std::chrono::milliseconds(std::min(left, kStepMs)));
  }

  Store& store_;
  const RestoreArguments& arguments_;
  RestoreOptions options_;
  FollowPlace& place_;
  bool followed_ = false;
  Position reported_;
  std::string told_;
};

Status check(const RestoreArguments& arguments) {
  if (!arguments.follow) return {};
  if (::geteuid() != 0)
    return Error{Errc::kUsage,
                 "--follow needs root: it goes on changing files of any owner and mode"};
  const char* const other = arguments.dry_run         ? "--dry-run"
                            : !arguments.at.empty()   ? "--at"
                            : !arguments.only.empty() ? "--only"
                                                      : nullptr;
  if (other == nullptr) return {};
  return Error{Errc::kUsage, std::string("--follow brings the whole directory to the newest point; "
                                         "it cannot be used with ") +
                                 other};
}

}  // namespace

Status run_restore_command(const RestoreArguments& arguments) {
  WALFS_TRY(check(arguments));
  RestoreOptions options;
  WALFS_ASSIGN(options.target, parse_target(arguments.at));
  options.only = arguments.only;
  options.force = arguments.force;
  if (!arguments.json) options.progress = progress_on_terminal();
  WALFS_ASSIGN(const auto store, open_replica(arguments.url, arguments.credentials_file));
  options.cancelled = catch_interrupts();
  WALFS_ASSIGN(const ReplicaKind kind, litestream::recognise_replica(*store));
  if (kind == ReplicaKind::kLitestream && (arguments.dry_run || arguments.follow)) {
    return Error{Errc::kUsage, std::string(arguments.follow ? "--follow" : "--dry-run") +
                                   " cannot be used with a replica of Litestream"};
  }
  if (kind == ReplicaKind::kLitestream) return restore_from_litestream(*store, arguments, options);
  if (arguments.dry_run) return preview(*store, arguments, options);
  if (arguments.follow) {
    WALFS_ASSIGN(FollowPlace place, FollowPlace::claim(arguments.directory));
    return FollowCommand(*store, arguments, options, place).run();
  }
  Position position;
  return restore_once(*store, arguments, options, position);
}

}  // namespace walfs
