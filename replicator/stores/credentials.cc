#include "replicator/stores/credentials.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>

namespace walfs {
namespace {

constexpr size_t kMaxSettingsSize = 64 * 1024;

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

std::string_view unquote(std::string_view value) {
  if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
      value.front() == value.back()) {
    return value.substr(1, value.size() - 2);
  }
  return value;
}

// Keys go into HTTP headers: a control character there would end the header.
bool is_header_value(const std::string& value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

struct Pair {
  const char* id;
  const char* secret;
  const char* token;  // nullptr when this family has none.
};
constexpr std::array<Pair, 2> kPairs = {{
    {"LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY", nullptr},
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
}};

Result<std::optional<Credentials>> pair_from(const Lookup& lookup, const Pair& pair) {
  Credentials found{lookup(pair.id), lookup(pair.secret),
                    pair.token != nullptr ? lookup(pair.token) : std::string()};
  if (found.access_key_id.empty() && found.secret_access_key.empty()) {
    return std::optional<Credentials>();
  }
  if (found.access_key_id.empty() || found.secret_access_key.empty()) {
    const bool no_id = found.access_key_id.empty();
    return Error{Errc::kDenied, std::string(no_id ? pair.secret : pair.id) + " is set but " +
                                    (no_id ? pair.id : pair.secret) + " is not; set both"};
  }
  if (!is_header_value(found.access_key_id) || !is_header_value(found.session_token)) {
    return Error{Errc::kDenied,
                 std::string("the value of ") + pair.id +
                     (pair.token != nullptr ? " or " + std::string(pair.token) : "") +
                     " holds a space or another character that no key has"};
  }
  return std::optional<Credentials>(std::move(found));
}

}  // namespace

Result<Settings> parse_settings(std::string_view text) {
  Settings settings;
  size_t number = 0;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    ++number;
    line = trim(line);
    if (line.empty() || line.front() == '#') continue;
    if (line.starts_with("export ")) line = trim(line.substr(7));
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return Error{Errc::kUsage,
                   "line " + std::to_string(number) + " is not of the form NAME=VALUE"};
    }
    settings[std::string(trim(line.substr(0, equals)))] = unquote(trim(line.substr(equals + 1)));
  }
  return settings;
}

Result<Settings> read_settings(const std::string& path) {
  if (path.empty()) return Settings();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return error_from_errno("cannot open the credentials file " + path, errno);
  struct stat attributes {};
  std::string text(kMaxSettingsSize + 1, '\0');
  const bool regular = fstat(fd, &attributes) == 0 && S_ISREG(attributes.st_mode);
  const ssize_t size = regular ? read(fd, text.data(), text.size()) : -1;
  close(fd);
  if (size < 0 || static_cast<size_t>(size) > kMaxSettingsSize) {
    return Error{Errc::kUsage, "the credentials file " + path + " cannot be read as a small file"};
  }
  if ((attributes.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    return Error{Errc::kUsage, "the credentials file " + path +
                                   " is open to other users; run: chmod 600 " + path};
  }
  text.resize(static_cast<size_t>(size));
  auto settings = parse_settings(text);
  if (settings.ok()) return settings;
  return Error{settings.error().code, path + ": " + settings.error().message};
}

std::string environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value != nullptr ? value : "";
}

std::string find_setting(const Settings& settings, const Lookup& environment,
                         const std::string& name) {
  const auto at = settings.find(name);
  return at != settings.end() && !at->second.empty() ? at->second : environment(name);
}

Result<Credentials> find_credentials(const Settings& settings, const Lookup& environment) {
  const Lookup from_settings = [&settings](const std::string& name) {
    return find_setting(
        settings, [](const std::string&) { return std::string(); }, name);
  };
  for (const Lookup& lookup : {from_settings, environment}) {
    for (const Pair& pair : kPairs) {
      WALFS_ASSIGN(const auto found, pair_from(lookup, pair));
      if (found) return *found;
    }
  }
  return Error{Errc::kDenied,
               "there are no credentials for the store; set AWS_ACCESS_KEY_ID and "
               "AWS_SECRET_ACCESS_KEY (or LITESTREAM_ACCESS_KEY_ID and "
               "LITESTREAM_SECRET_ACCESS_KEY) in the environment or in the credentials file"};
}

std::string find_region(const Settings& settings, const Lookup& environment) {
  const std::string region = find_setting(settings, environment, "AWS_REGION");
  return region.empty() ? find_setting(settings, environment, "AWS_DEFAULT_REGION") : region;
}

}  // namespace walfs
