#include "fs/cli/config.h"

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <sstream>

namespace walfs {
namespace {

Status wrong(const std::string& path, const std::string& what) {
  return Error{Errc::kUsage, path + ": " + what};
}

Status set_duration(const std::string& path, const std::string& name, const toml::node& value,
                    int64_t& target) {
  int64_t ms = -1;
  if (const auto text = value.value<std::string>()) ms = parse_duration_ms(*text);
  if (value.is_integer()) ms = value.value<int64_t>().value_or(-1) * 1000;
  if (ms <= 0) return wrong(path, name + " takes a duration such as \"250ms\" or \"5s\"");
  target = ms;
  return {};
}

Status set_text(const std::string& path, const std::string& name, const toml::node& value,
                std::string& target) {
  const auto text = value.value<std::string>();
  if (!text) return wrong(path, name + " takes a string");
  target = *text;
  return {};
}

Status set_option(const std::string& path, const std::string& name, const toml::node& value,
                  MountOptions& options) {
  if (name == "replica") return set_text(path, name, value, options.replica_url);
  if (name == "credentials-file") return set_text(path, name, value, options.credentials_file);
  if (name == "log-file") return set_text(path, name, value, options.log_file);
  if (name == "log-format") return set_text(path, name, value, options.log_format);
  if (name == "log-level") return set_text(path, name, value, options.log_level);
  if (name == "flush-interval") return set_duration(path, name, value, options.flush_interval_ms);
  if (name == "sync-interval") return set_duration(path, name, value, options.sync_interval_ms);
  if (name == "unmount-timeout") return set_duration(path, name, value, options.unmount_timeout_ms);
  if (name == "threads") {
    const auto threads = value.value<int64_t>();
    if (!threads || *threads < 1 || *threads > 64)
      return wrong(path, "threads takes a number from 1 to 64");
    options.threads = static_cast<int>(*threads);
    return {};
  }
  return wrong(path, "there is no option \"" + name + "\"");
}

}  // namespace

int64_t parse_duration_ms(const std::string& text) {
  std::istringstream in(text);
  double number = 0;
  std::string unit;
  if (!(in >> number) || number < 0) return -1;
  in >> unit;
  if (unit == "ms") return static_cast<int64_t>(number);
  if (unit.empty() || unit == "s") return static_cast<int64_t>(number * 1000);
  if (unit == "m") return static_cast<int64_t>(number * 60000);
  if (unit == "h") return static_cast<int64_t>(number * 3600000);
  return -1;
}

Status apply_config(const std::string& path, const CLI::App& command, MountOptions& options) {
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return wrong(path, std::string(error.description()));
  }
  for (const auto& [key, value] : table) {
    const std::string name(key.str());
    const CLI::Option* option = command.get_option_no_throw("--" + name);
    if (option != nullptr && option->count() > 0) continue;
    WALFS_TRY(set_option(path, name, value, options));
  }
  return {};
}

}  // namespace walfs
