// The commands that a user types, but mount and unmount (fs/mount/keeper.h). Each prints its result
// to standard output and returns an error for main to print.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replicator/base/result.h"

namespace walfs {

struct RestoreArguments {
  std::string url;
  std::string directory;
  std::string at;  // RFC 3339 time or position; empty = newest.
  std::vector<std::string> only;
  bool force = false;
  bool dry_run = false;
  bool follow = false;
  int64_t poll_interval_ms = 10000;  // With follow: how often the store is asked.
  bool json = false;
  std::string credentials_file;
};

struct LookArguments {
  std::string url;
  std::string path;  // Of a file or a directory; empty = everything.
  std::string at;    // As for restore.
  bool json = false;
  std::string credentials_file;
};

struct ExportArguments {
  std::string url;
  std::string directory;
  std::string format;
  std::string at;  // As for restore.
  std::vector<std::string> only;
  bool json = false;
  std::string credentials_file;
};

Status run_sync_command(const std::string& mountpoint, int64_t timeout_ms);
Status run_pause_command(const std::string& mountpoint, int64_t timeout_ms);
Status run_resume_command(const std::string& mountpoint, int64_t timeout_ms);
// All mounts if mountpoint is empty.
Status run_status_command(const std::string& mountpoint, bool json);
Status run_restore_command(const RestoreArguments& arguments);
Status run_ls_command(const LookArguments& arguments);
Status run_cat_command(const LookArguments& arguments);
Status run_export_command(const ExportArguments& arguments);
Status run_history_command(const std::string& url, const std::string& credentials_file, bool json);
Status run_verify_command(const std::string& url, const std::string& credentials_file, bool json);

}  // namespace walfs
