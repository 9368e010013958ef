#include "fs/cli/config.h"

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <sstream>

#include "fs/cli/size.h"

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

Status set_retention(const std::string& path, const toml::node& value, int64_t& target) {
  const auto text = value.value<std::string>();
  const int64_t ms = text ? parse_retention_ms(*text) : -1;
  if (ms < 0) return wrong(path, "retention takes an hour or more, such as \"7d\", or \"forever\"");
  target = ms;
  return {};
}

Status set_snapshot_interval(const std::string& path, const toml::node& value, int64_t& target) {
  int64_t ms = 0;
  WALFS_TRY(set_duration(path, "snapshot-interval", value, ms));
  if (ms < kSnapshotIntervalMinMs || ms > kSnapshotIntervalMaxMs)
    return wrong(path, "snapshot-interval takes a minute or more, such as \"24h\"");
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

Status set_number(const std::string& path, const std::string& name, const toml::node& value,
                  int max, int& target) {
  const auto number = value.value<int64_t>();
  if (!number || *number < 1 || *number > max)
    return wrong(path, name + " takes a number from 1 to " + std::to_string(max));
  target = static_cast<int>(*number);
  return {};
}

Status set_size(const std::string& path, const std::string& name, const toml::node& value,
                int64_t& target) {
  int64_t size = -1;
  if (const auto text = value.value<std::string>()) size = parse_size(*text);
  if (value.is_integer()) size = value.value<int64_t>().value_or(-1);
  if (size < kSpoolLimitMin || size > kSpoolLimitMax)
    return wrong(path, name + " takes a size such as \"512MiB\", 64KiB at least");
  target = size;
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
  if (name == "request-timeout") return set_duration(path, name, value, options.request_timeout_ms);
  if (name == "max-request-rate")
    return set_number(path, name, value, kRequestRateMax, options.max_request_rate);
  if (name == "durability") return set_text(path, name, value, options.durability);
  if (name == "sync-policy") return set_text(path, name, value, options.sync_policy);
  if (name == "sync-timeout") return set_duration(path, name, value, options.sync_timeout_ms);
  if (name == "spool-limit") return set_size(path, name, value, options.spool_limit);
  if (name == "snapshot-interval")
    return set_snapshot_interval(path, value, options.snapshot_interval_ms);
  if (name == "retention") return set_retention(path, value, options.retention_ms);
  if (name == "threads") return set_number(path, name, value, 32, options.threads);
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
  if (unit == "d") return static_cast<int64_t>(number * 86400000);
  return -1;
}

int64_t parse_retention_ms(const std::string& text) {
  constexpr int64_t kHourMs = 3'600'000;
  if (text == "forever") return 0;
  const int64_t ms = parse_duration_ms(text);
  return ms >= kHourMs ? ms : -1;
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
