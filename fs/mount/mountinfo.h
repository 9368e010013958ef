// The mounts of this process's namespace, read from /proc/self/mountinfo: no file of any mount is
// touched, so it cannot block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace walfs {

struct MountEntry {
  int mount_id = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::string mountpoint;
  std::string type;    // "fuse.walfs"
  std::string source;  // For ours: the backing directory.
};

constexpr const char* kMountType = "fuse.walfs";

std::vector<MountEntry> parse_mountinfo(const std::string& text);
std::vector<MountEntry> read_mountinfo();
// The topmost mount at exactly this path.
std::optional<MountEntry> mount_at(const std::string& mountpoint);

}  // namespace walfs
