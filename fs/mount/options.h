// What `walfs mount` was asked to do. Handed from the keeper to its children as CBOR in a memfd;
// it never holds a secret, only the names of the files that do.
#pragma once

#include <cstdint>
#include <string>

#include "replicator/base/result.h"

namespace walfs {

struct MountOptions {
  std::string source;      // The backing directory.
  std::string mountpoint;  // Equal to source: mounted over it.
  std::string replica_url;
  std::string credentials_file;
  std::string config_file;
  int64_t flush_interval_ms = 100;
  int64_t sync_interval_ms = 1000;
  int64_t unmount_timeout_ms = 30000;  // For draining after SIGTERM.
  int64_t request_timeout_ms = 30000;  // For a request to the store in which nothing moves.
  int max_request_rate = 50;           // Requests to the store in a second.
  std::string durability = "async";    // Or "sync": commits return when they are in the store.
  std::string sync_policy = "wait";    // Or "fail", "degrade": after sync_timeout_ms.
  int64_t sync_timeout_ms = 30000;
  int64_t spool_limit = int64_t{1} << 30;  // Bytes that may wait for the store.
  int64_t snapshot_interval_ms = int64_t{24} * 3600 * 1000;
  int64_t retention_ms = int64_t{7} * 24 * 3600 * 1000;  // 0: all points are kept.
  int threads = 8;                                       // That serve requests.
  int64_t spin_us = 0;   // How long an idle thread polls before it sleeps.
  bool realtime = true;  // Requests are served before other processes run.
  bool foreground = false;
  std::string log_file;  // Empty: standard error in the foreground, else .walfs/walfs.log.
  std::string log_format = "text";  // Or "json".
  std::string log_level = "info";
  // Options of other parts of the program, passed on unread (a JSON object as text).
  std::string extra = "{}";
};

// CBOR, as paths need not be UTF-8.
std::string mount_options_to_text(const MountOptions& options);
Result<MountOptions> mount_options_from_text(const std::string& text);

// Makes the process log to standard error as the options say.
void set_up_logging(const MountOptions& options, const char* process_name);

}  // namespace walfs
