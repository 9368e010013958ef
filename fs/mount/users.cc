#include "fs/mount/users.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

namespace walfs {
namespace {

struct Device {
  unsigned device_major;
  unsigned device_minor;
};

struct CloseDir {
  void operator()(DIR* stream) const { closedir(stream); }
};
using Directory = std::unique_ptr<DIR, CloseDir>;

std::string read_link(const std::string& link) {
  char target[PATH_MAX];
  ssize_t size = readlink(link.c_str(), target, sizeof target);
  return size < 0 ? std::string() : std::string(target, static_cast<size_t>(size));
}

// The link's target if it is on the device. DONT_SYNC: answer from what the kernel knows.
std::optional<std::string> target_on(const std::string& link, const Device& device) {
  struct statx attributes;
  if (statx(AT_FDCWD, link.c_str(), AT_STATX_DONT_SYNC, 0, &attributes) != 0) return std::nullopt;
  if (attributes.stx_dev_major != device.device_major ||
      attributes.stx_dev_minor != device.device_minor)
    return std::nullopt;
  return read_link(link);
}

std::optional<std::string> open_file_on(const std::string& process, const Device& device) {
  Directory descriptors(opendir((process + "/fd").c_str()));
  if (!descriptors) return std::nullopt;
  while (const dirent* item = readdir(descriptors.get())) {
    if (item->d_name[0] == '.') continue;
    if (auto path = target_on(process + "/fd/" + item->d_name, device)) return path;
  }
  return std::nullopt;
}

std::optional<std::string> mapping_on(const std::string& process, const Device& device) {
  std::ifstream maps(process + "/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::string range;
    std::string access;
    std::string offset;
    std::string numbers;
    std::string inode;
    fields >> range >> access >> offset >> numbers >> inode;
    size_t colon = numbers.find(':');
    if (colon == std::string::npos) continue;
    if (std::strtoul(numbers.c_str(), nullptr, 16) != device.device_major ||
        std::strtoul(numbers.c_str() + colon + 1, nullptr, 16) != device.device_minor)
      continue;
    std::string path;
    std::getline(fields >> std::ws, path);
    return path;
  }
  return std::nullopt;
}

std::optional<MountUser> user_of(pid_t pid, const Device& device) {
  const std::string process = "/proc/" + std::to_string(pid);
  MountUser user;
  user.pid = pid;
  auto use = [&](std::optional<std::string> path, const char* how) {
    if (!path) return false;
    user.path = std::move(*path);
    user.how = how;
    return true;
  };
  if (!use(open_file_on(process, device), "open file") &&
      !use(target_on(process + "/cwd", device), "working directory") &&
      !use(target_on(process + "/root", device), "root directory") &&
      !use(mapping_on(process, device), "mapping"))
    return std::nullopt;
  std::ifstream name(process + "/comm");
  std::getline(name, user.command);
  return user;
}

}  // namespace

std::vector<MountUser> find_mount_users(unsigned device_major, unsigned device_minor,
                                        const std::vector<pid_t>& except, size_t limit) {
  std::vector<MountUser> users;
  Directory processes(opendir("/proc"));
  if (!processes) return users;
  while (const dirent* item = readdir(processes.get())) {
    auto pid = static_cast<pid_t>(std::strtol(item->d_name, nullptr, 10));
    if (pid <= 0 || std::find(except.begin(), except.end(), pid) != except.end()) continue;
    if (auto user = user_of(pid, Device{device_major, device_minor})) users.push_back(*user);
    if (users.size() == limit) break;
  }
  return users;
}

nlohmann::json to_json(const std::vector<MountUser>& users) {
  auto list = nlohmann::json::array();
  for (const MountUser& user : users) {
    list.push_back(
        {{"pid", user.pid}, {"command", user.command}, {"path", user.path}, {"how", user.how}});
  }
  return list;
}

std::string describe(const std::vector<MountUser>& users) {
  std::string text;
  for (const MountUser& user : users) {
    if (!text.empty()) text += ", ";
    text += user.command + " (pid " + std::to_string(user.pid) + ", " + user.how + " " + user.path +
            ")";
  }
  return text.empty() ? "a process that walfs cannot see" : text;
}

}  // namespace walfs
