#include "fs/mount/mountinfo.h"

#include <fstream>
#include <sstream>

namespace walfs {
namespace {

// Blanks and backslashes in paths are written as \ooo.
std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) |
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<MountEntry> parse_line(const std::string& line) {
  MountEntry entry;
  std::istringstream fields(line);
  std::string parent;
  std::string root;
  std::string options;
  char colon = 0;
  fields >> entry.mount_id >> parent >> entry.device_major >> colon >> entry.device_minor >> root >>
      entry.mountpoint >> options;
  // Optional fields follow, ended by a dash.
  std::string field;
  while (fields >> field && field != "-") {
  }
  fields >> entry.type >> entry.source;
  if (!fields) return std::nullopt;
  entry.mountpoint = unescape(entry.mountpoint);
  entry.source = unescape(entry.source);
  return entry;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(const std::string& text) {
  std::vector<MountEntry> mounts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (auto entry = parse_line(line)) mounts.push_back(std::move(*entry));
  return mounts;
}

std::vector<MountEntry> read_mountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  return parse_mountinfo(text.str());
}

std::optional<MountEntry> mount_at(const std::string& mountpoint) {
  std::optional<MountEntry> found;
  for (MountEntry& entry : read_mountinfo())
    if (entry.mountpoint == mountpoint) found = std::move(entry);
  return found;
}

}  // namespace walfs
