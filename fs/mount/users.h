// Who keeps a mount busy.
#pragma once

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace walfs {

struct MountUser {
  pid_t pid = 0;
  std::string command;
  std::string path;  // One of the paths it uses.
  std::string how;   // "open file", "working directory", "root directory" or "mapping".
};

// The processes with files of this device open, mapped, or as their directory; at most limit.
// Never sends a request to the mount, so that the server of the mount may call it.
std::vector<MountUser> find_mount_users(unsigned device_major, unsigned device_minor,
                                        const std::vector<pid_t>& except, size_t limit = 20);
nlohmann::json to_json(const std::vector<MountUser>& users);
// "nginx (pid 12: /data/x.db), php (pid 14: /data)"
std::string describe(const std::vector<MountUser>& users);

}  // namespace walfs
