#include "fs/mount/options.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

namespace walfs {
namespace {

// Calls visit(name, member) for every field, so that both directions share one list.
template <typename Options, typename Visitor>
void for_each_field(Options& options, Visitor&& visit) {
  visit("source", options.source);
  visit("mountpoint", options.mountpoint);
  visit("replica_url", options.replica_url);
  visit("credentials_file", options.credentials_file);
  visit("config_file", options.config_file);
  visit("flush_interval_ms", options.flush_interval_ms);
  visit("sync_interval_ms", options.sync_interval_ms);
  visit("unmount_timeout_ms", options.unmount_timeout_ms);
  visit("request_timeout_ms", options.request_timeout_ms);
  visit("max_request_rate", options.max_request_rate);
  visit("durability", options.durability);
  visit("sync_policy", options.sync_policy);
  visit("sync_timeout_ms", options.sync_timeout_ms);
  visit("spool_limit", options.spool_limit);
  visit("snapshot_interval_ms", options.snapshot_interval_ms);
  visit("retention_ms", options.retention_ms);
  visit("threads", options.threads);
  visit("spin_us", options.spin_us);
  visit("realtime", options.realtime);
  visit("foreground", options.foreground);
  visit("log_file", options.log_file);
  visit("log_format", options.log_format);
  visit("log_level", options.log_level);
  visit("extra", options.extra);
}

}  // namespace

std::string mount_options_to_text(const MountOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  for_each_field(options, [&](const char* name, const auto& field) { json[name] = field; });
  std::string text;
  nlohmann::json::to_cbor(json, text);
  return text;
}

Result<MountOptions> mount_options_from_text(const std::string& text) {
  MountOptions options;
  try {
    const auto json = nlohmann::json::from_cbor(text);
    for_each_field(options, [&](const char* name, auto& field) {
      if (json.contains(name)) json.at(name).get_to(field);
    });
  } catch (const nlohmann::json::exception& fault) {
    return Error{Errc::kUsage, std::string("the mount options are not valid: ") + fault.what()};
  }
  return options;
}

void set_up_logging(const MountOptions& options, const char* process_name) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(process_name, std::move(sink));
  if (options.log_format == "json") {
    // The message is one of our own sentences; file names in it are quoted by whoever logs them.
    logger->set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","process":"%n","pid":%P,"message":"%v"})");
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %n[%P] %v");
  }
  logger->set_level(spdlog::level::from_str(options.log_level));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace walfs
