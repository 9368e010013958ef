#include "fs/tracking/pause.h"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "replicator/outage.h"
#include "replicator/time.h"

namespace walfs {

void Pause::begin(Reason reason, const std::string& fault) {
  if (has(reason)) return;
  if (reason != kAsked) ++state_.in_a_row;
  if (reason == kSpoolFault) {
    const size_t size = fault.copy(state_.fault.data(), state_.fault.size() - 1);
    state_.fault[size] = '\0';
  }
  const bool first = !paused();
  if (first) state_.since_ns = now_ns();
  state_.reasons |= reason;
  if (first)
    spdlog::warn("replication pauses: {}; what is written meanwhile is found and shipped later",
                 why());
}

void Pause::end(Reason reason) {
  if (!has(reason)) return;
  const int64_t lasted = now_ns() - state_.since_ns;
  if ((state_.reasons &= ~static_cast<uint32_t>(reason)) != 0) return;
  spdlog::warn("replication goes on after a pause of {}: what was written meanwhile is compared",
               describe_duration(lasted));
}

std::string Pause::fault() const {
  return has(kSpoolFault) ? state_.fault.data() : "";
}

std::string Pause::since() const {
  return format_time(state_.since_ns);
}

std::string Pause::why() const {
  std::string text;
  const auto add = [&](const std::string& clause) {
    text += (text.empty() ? "" : ", and ") + clause;
  };
  if (has(kAsked)) add("it was asked for (walfs pause)");
  if (has(kSpoolFull)) add("the spool is full (--spool-limit)");
  if (has(kSpoolFault)) add("the spool cannot be written: " + fault());
  return text;
}

nlohmann::json Pause::status() const {
  if (!paused()) return nullptr;
  nlohmann::json reasons = nlohmann::json::array();
  if (has(kAsked)) reasons.push_back("asked");
  if (has(kSpoolFull)) reasons.push_back("spool-full");
  if (has(kSpoolFault)) reasons.push_back("spool-fault");
  return {{"why", why()}, {"reasons", std::move(reasons)}, {"since", since()}};
}

}  // namespace walfs
