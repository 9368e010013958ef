#include "fs/cli/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/config.h"
#include "fs/cli/size.h"
#include "fs/mount/keeper.h"
#include "fs/mount/options.h"

namespace walfs {
namespace {

int fail(const Error& error) {
  std::fprintf(stderr, "walfs: %s\n", error.message.c_str());
  return exit_code(error);
}

// 3 says that there is nothing to restore, and nothing else.
int not_about_replicas(int exit_status) {
  return exit_status == 3 ? 1 : exit_status;
}

int finish(const Status& status) {
  return status.ok() ? 0 : fail(status.error());
}

std::string describe_duration(int64_t ms) {
  constexpr std::pair<int64_t, const char*> kUnits[] = {
      {86'400'000, "d"}, {3'600'000, "h"}, {60'000, "m"}, {1000, "s"}};
  for (const auto& [unit, name] : kUnits)
    if (ms % unit == 0) return std::to_string(ms / unit) + name;
  return std::to_string(ms) + "ms";
}

// Durations as people write them: 250ms, 5s, 2m; a bare number is in seconds. Hands on
// milliseconds.
CLI::Validator duration_ms(int64_t min_ms = 0, int64_t max_ms = INT64_MAX) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        const int64_t ms = parse_duration_ms(text);
        if (ms < 0) return "\"" + text + "\" is no duration; write 250ms, 5s or 2m";
        if (ms < min_ms) return text + " is too short; " + describe_duration(min_ms) + " at least";
        if (ms > max_ms) return text + " is too long; " + describe_duration(max_ms) + " at most";
        text = std::to_string(ms);
        return {};
      },
      "DURATION");
}

CLI::Validator retention_ms() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const int64_t ms = parse_retention_ms(text);
        if (ms < 0)
          return "\"" + text + "\" is not a time of an hour or more; write 12h, 7d or forever";
        text = std::to_string(ms);
        return {};
      },
      "DURATION");
}

// Sizes likewise: 64KiB, 512MiB, 1GiB. Hands on bytes.
CLI::Validator size_bytes() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const int64_t bytes = parse_size(text);
        if (bytes < 0) return "\"" + text + "\" is no size; write 64KiB, 512MiB or 1GiB";
        if (bytes < kSpoolLimitMin)
          return text + " is too small; " + describe_size(kSpoolLimitMin) + " at least";
        if (bytes > kSpoolLimitMax) return text + " is more than any disk has";
        text = std::to_string(bytes);
        return {};
      },
      "SIZE");
}

struct Arguments {
  MountOptions mount;
  std::string config_file;
  std::string mountpoint;
  int64_t timeout_ms = 30000;
  bool force = false;
  bool take_over = false;
  bool json = false;
  RestoreArguments restore;
  LookArguments look;
  ExportArguments exporting;
  std::string url;
  std::string credentials_file;
};

const char* const kUrlHelp =
    "file:///absolute/directory or s3://bucket/prefix?endpoint=URL&region=NAME";

void add_credentials(CLI::App& command, std::string& file) {
  command.add_option(
      "--credentials-file", file,
      "A file with AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=... (default: the environment)");
}

CLI::App* add_mount(CLI::App& app, Arguments& arguments) {
  CLI::App* command =
      app.add_subcommand("mount", "Mount a directory and replicate everything in it");
  MountOptions& options = arguments.mount;
  command->add_option("SOURCE", options.source, "The directory with the data")->required();
  command->add_option("MOUNTPOINT", options.mountpoint,
                      "Where to mount it (default: over SOURCE itself)");
  command->add_option("--replica", options.replica_url, kUrlHelp);
  add_credentials(*command, options.credentials_file);
  command->add_option("--config", arguments.config_file,
                      "A TOML file with options by the same names");
  command
      ->add_option("--flush-interval", options.flush_interval_ms,
                   "How often the kernel's pages are written back")
      ->transform(duration_ms(5, 60000))
      ->default_str("100ms");
  command
      ->add_option("--sync-interval", options.sync_interval_ms,
                   "How often what was captured is uploaded")
      ->transform(duration_ms(50, 3600000))
      ->default_str("1s");
  command
      ->add_option("--unmount-timeout", options.unmount_timeout_ms,
                   "How long SIGTERM waits for the store")
      ->transform(duration_ms())
      ->default_str("30s");
  command
      ->add_option("--request-timeout", options.request_timeout_ms,
                   "When a request to the store in which nothing moves is given up")
      ->transform(duration_ms(100, 600000))
      ->default_str("30s");
  command
      ->add_option("--max-request-rate", options.max_request_rate,
                   "Requests to the S3 service in a second at most")
      ->check(CLI::Range(1, kRequestRateMax));
  command
      ->add_option("--durability", options.durability,
                   "sync: a commit returns when it is in the store")
      ->check(CLI::IsMember({"async", "sync"}));
  command
      ->add_option("--sync-timeout", options.sync_timeout_ms,
                   "How long a commit waits for the store before the policy counts")
      ->transform(duration_ms(100, 86400000))
      ->default_str("30s");
  command
      ->add_option("--sync-policy", options.sync_policy,
                   "Then: wait on, fail with EIO, or degrade to async until the store is back")
      ->check(CLI::IsMember({"wait", "fail", "degrade"}));
  command
      ->add_option("--spool-limit", options.spool_limit,
                   "How much may wait for the store before replication pauses")
      ->transform(size_bytes())
      ->default_str("1GiB");
  command
      ->add_option("--snapshot-interval", options.snapshot_interval_ms,
                   "How often a snapshot is written of what has changed")
      ->transform(duration_ms(kSnapshotIntervalMinMs, kSnapshotIntervalMaxMs))
      ->default_str("24h");
  command
      ->add_option("--retention", options.retention_ms,
                   "How far back one can restore: each commit of a day, then hourly; or forever")
      ->transform(retention_ms())
      ->default_str("7d");
  command->add_option("--threads", options.threads, "Threads that serve requests")
      ->check(CLI::Range(1, 32));
  command
      ->add_option("--spin", options.spin_us,
                   "Microseconds that an idle thread polls before it sleeps")
      ->check(CLI::Range(0, 1000));
  command->add_flag("!--no-realtime", options.realtime,
                    "Serve requests at the priority of an ordinary process");
  command->add_flag("--take-over", arguments.take_over,
                    "Write to a replica that another host wrote to until now");
  command->add_flag("--foreground", options.foreground, "Stay in the foreground");
  command->add_option("--log-file", options.log_file,
                      "Where to log (default: .walfs/walfs.log in SOURCE)");
  command->add_option("--log-format", options.log_format, "How log lines look")
      ->check(CLI::IsMember({"text", "json"}));
  command->add_option("--log-level", options.log_level, "The least important lines to log")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  command->footer(
      "Examples:\n"
      "  walfs mount /srv/app --replica file:///backup/app\n"
      "  walfs mount /srv/.app /srv/app --replica \"s3://bucket/app?region=eu-central-1\"\n"
      "  walfs mount /srv/app --replica s3://bucket/app --durability sync --sync-policy degrade");
  return command;
}

CLI::App* add_unmount(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand("unmount", "Ship everything, then unmount");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "Where the mount is")->required();
  command->add_option("--timeout", arguments.timeout_ms, "How long to wait for the store")
      ->transform(duration_ms())
      ->default_str("30s");
  command->add_flag("--force", arguments.force,
                    "Unmount also if something could not be shipped (it stays in the spool)");
  command->footer("Example:\n  walfs unmount /srv/app --timeout 2m");
  return command;
}

CLI::App* add_sync(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand(
      "sync", "Wait until all that was written before is in the store; print the position");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "Where the mount is")->required();
  command->add_option("--timeout", arguments.timeout_ms, "How long to wait for the store")
      ->transform(duration_ms())
      ->default_str("30s");
  command->footer("Example:\n  position=$(walfs sync /srv/app)");
  return command;
}

CLI::App* add_pause(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand(
      "pause", "Stop replicating, while the application goes on, until walfs resume");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "Where the mount is")->required();
  command->footer("Example:\n  walfs pause /srv/app");
  return command;
}

CLI::App* add_resume(CLI::App& app, Arguments& arguments) {
  CLI::App* command =
      app.add_subcommand("resume", "Replicate again, and ship what was written meanwhile");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "Where the mount is")->required();
  command->footer("Example:\n  walfs resume /srv/app");
  return command;
}

CLI::App* add_upgrade(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand(
      "upgrade", "Let this version of walfs go on with a mount, unnoticed by those who use it");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "Where the mount is")->required();
  command->add_option("--timeout", arguments.timeout_ms, "How long to wait for it")
      ->transform(duration_ms())
      ->default_str("30s");
  command->footer("Example:\n  walfs upgrade /srv/app");
  return command;
}

CLI::App* add_status(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand("status", "Show what the mounts of this host do");
  command->add_option("MOUNTPOINT", arguments.mountpoint, "One mount (default: all)");
  command->add_flag("--json", arguments.json, "Answer in JSON, for programs");
  command->footer("Examples:\n  walfs status\n  walfs status /srv/app --json");
  return command;
}

CLI::App* add_restore(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand("restore", "Rebuild a directory from its replica");
  RestoreArguments& restore = arguments.restore;
  command->add_option("URL", restore.url, kUrlHelp)->required();
  command->add_option("DIRECTORY", restore.directory, "A new or empty directory")->required();
  command->add_option(
      "--at", restore.at,
      "A time (2026-03-01T12:30:05Z, \"10 minutes ago\") or a position; default: the "
      "newest");
  command->add_option("--only", restore.only,
                      "Only paths that match this pattern (may be given several times)");
  command->add_flag("--force", restore.force, "Replace a directory that is not empty");
  command->add_flag("--dry-run", restore.dry_run,
                    "Only say what would be restored, and how much would be fetched");
  command->add_flag("--follow", restore.follow,
                    "Go on with what is committed from then on, until a signal ends it");
  command
      ->add_option("--poll-interval", restore.poll_interval_ms,
                   "With --follow: how often the store is asked")
      ->transform(duration_ms(100, 86400000))
      ->default_str("10s");
  command->add_flag("--json", restore.json, "Answer in JSON, for programs");
  add_credentials(*command, restore.credentials_file);
  command->footer(
      "Examples:\n"
      "  walfs restore file:///backup/app /srv/app\n"
      "  walfs restore s3://bucket/app /tmp/look --at 2026-03-01T12:30:05Z --only 'db/*'\n"
      "  walfs restore s3://bucket/app /tmp/look --at '2 hours ago' --dry-run\n"
      "  walfs restore s3://bucket/app /srv/standby --follow\n"
      "  walfs restore s3://bucket/app.db /srv/app     # from a replica of Litestream");
  return command;
}

CLI::App* add_look(CLI::App& app, const char* name, const char* help, LookArguments& look) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("URL", look.url, kUrlHelp)->required();
  command->add_option("--at", look.at, "As for restore; default: the newest point");
  add_credentials(*command, look.credentials_file);
  return command;
}

CLI::App* add_ls(CLI::App& app, Arguments& arguments) {
  LookArguments& look = arguments.look;
  CLI::App* command = add_look(app, "ls", "List the files in a replica", look);
  command->add_option("PATH", look.path, "A file, or a directory (default: everything)");
  command->add_flag("--json", look.json, "Answer in JSON, for programs");
  command->footer(
      "Examples:\n"
      "  walfs ls file:///backup/app\n"
      "  walfs ls s3://bucket/app uploads --at '1 day ago'");
  return command;
}

CLI::App* add_cat(CLI::App& app, Arguments& arguments) {
  LookArguments& look = arguments.look;
  CLI::App* command =
      add_look(app, "cat", "Print a file of a replica, once all of it is fetched and proved", look);
  command->add_option("PATH", look.path, "A regular file")->required();
  command->footer(
      "Examples:\n"
      "  walfs cat file:///backup/app config.json\n"
      "  walfs cat s3://bucket/app db/app.db --at '1 hour ago' > /tmp/app.db");
  return command;
}

CLI::App* add_export(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand(
      "export", "Move out: make each database of a replica one that Litestream can go on with");
  ExportArguments& options = arguments.exporting;
  command->add_option("URL", options.url, kUrlHelp)->required();
  command->add_option("DIRECTORY", options.directory, "A new or empty directory")->required();
  command->add_option("--format", options.format, "litestream: what Litestream v0.5 writes")
      ->required();
  command->add_option("--at", options.at, "As for restore; default: the newest point");
  command->add_option("--only", options.only,
                      "Only databases whose paths match this pattern (may be given several times)");
  command->add_flag("--json", options.json, "Answer in JSON, for programs");
  add_credentials(*command, options.credentials_file);
  command->footer(
      "Examples:\n"
      "  walfs export file:///backup/app /backup/litestream --format litestream\n"
      "  walfs export s3://bucket/app /tmp/out --format litestream --only 'db/*' --at '1 day ago'\n"
      "  litestream restore -o app.db file:///backup/litestream/db/app.db");
  return command;
}

CLI::App* add_history(CLI::App& app, Arguments& arguments) {
  CLI::App* command = app.add_subcommand("history", "List what can be restored");
  command->add_option("URL", arguments.url, kUrlHelp)->required();
  command->add_flag("--json", arguments.json, "Answer in JSON, for programs");
  add_credentials(*command, arguments.credentials_file);
  command->footer("Example:\n  walfs history file:///backup/app");
  return command;
}

CLI::App* add_verify(CLI::App& app, Arguments& arguments) {
  CLI::App* command =
      app.add_subcommand("verify", "Read a whole replica and prove that it can be restored");
  command->add_option("URL", arguments.url, kUrlHelp)->required();
  command->add_flag("--json", arguments.json, "Answer in JSON, for programs");
  add_credentials(*command, arguments.credentials_file);
  command->footer("Example:\n  walfs verify file:///backup/app");
  return command;
}

Status prepare_mount(const CLI::App& command, Arguments& arguments) {
  if (!arguments.config_file.empty())
    WALFS_TRY(apply_config(arguments.config_file, command, arguments.mount));
  if (arguments.mount.replica_url.empty()) {
    return Error{
        Errc::kUsage,
        std::string("--replica is missing: say where the replica is to be, as ") + kUrlHelp};
  }
  if (!arguments.mount.credentials_file.empty()) {
    // The daemon works in another directory.
    arguments.mount.credentials_file =
        std::filesystem::absolute(arguments.mount.credentials_file).string();
  }
  if (!arguments.mount.log_file.empty()) {
    arguments.mount.log_file = std::filesystem::absolute(arguments.mount.log_file).string();
  }
  arguments.mount.extra = nlohmann::json{{"take_over", arguments.take_over}}.dump();
  return {};
}

}  // namespace

int run_cli(int argc, char** argv) {
  CLI::App app(
      "walfs: a directory that replicates itself. Every committed SQLite transaction and every "
      "file of a mounted "
      "directory\nis captured as it is written, and can be restored as of any moment.",
      "walfs");
  app.set_version_flag("--version", std::string("walfs ") + WALFS_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Examples:\n  walfs mount /srv/app --replica s3://my-bucket/app\n"
      "  walfs status\n  walfs restore s3://my-bucket/app /srv/app-restored");
  Arguments arguments;
  CLI::App* mount = add_mount(app, arguments);
  CLI::App* unmount = add_unmount(app, arguments);
  CLI::App* sync = add_sync(app, arguments);
  CLI::App* pause = add_pause(app, arguments);
  CLI::App* resume = add_resume(app, arguments);
  CLI::App* upgrade = add_upgrade(app, arguments);
  CLI::App* status = add_status(app, arguments);
  CLI::App* restore = add_restore(app, arguments);
  CLI::App* ls = add_ls(app, arguments);
  CLI::App* cat = add_cat(app, arguments);
  CLI::App* exporting = add_export(app, arguments);
  CLI::App* history = add_history(app, arguments);
  CLI::App* verify = add_verify(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;
    app.exit(error);
    return asked ? 0 : 2;
  }
  if (mount->parsed()) {
    if (Status ready = prepare_mount(*mount, arguments); !ready.ok()) return fail(ready.error());
    return not_about_replicas(run_mount_command(arguments.mount));
  }
  if (unmount->parsed())
    return not_about_replicas(
        finish(run_unmount_command(arguments.mountpoint, arguments.timeout_ms, arguments.force)));
  if (sync->parsed())
    return not_about_replicas(finish(run_sync_command(arguments.mountpoint, arguments.timeout_ms)));
  if (pause->parsed())
    return not_about_replicas(
        finish(run_pause_command(arguments.mountpoint, arguments.timeout_ms)));
  if (resume->parsed())
    return not_about_replicas(
        finish(run_resume_command(arguments.mountpoint, arguments.timeout_ms)));
  if (upgrade->parsed())
    return not_about_replicas(
        finish(run_upgrade_command(arguments.mountpoint, arguments.timeout_ms)));
  if (status->parsed())
    return not_about_replicas(finish(run_status_command(arguments.mountpoint, arguments.json)));
  if (restore->parsed()) return finish(run_restore_command(arguments.restore));
  if (ls->parsed()) return finish(run_ls_command(arguments.look));
  if (cat->parsed()) return finish(run_cat_command(arguments.look));
  if (exporting->parsed()) return finish(run_export_command(arguments.exporting));
  if (history->parsed()) {
    return finish(run_history_command(arguments.url, arguments.credentials_file, arguments.json));
  }
  if (verify->parsed())
    return finish(run_verify_command(arguments.url, arguments.credentials_file, arguments.json));
  return 2;
}

}  // namespace walfs
