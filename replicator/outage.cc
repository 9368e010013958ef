#include "replicator/outage.h"

#include <algorithm>
#include <cctype>

#include "replicator/time.h"

namespace walfs {
namespace {

constexpr size_t kKindsMax = 8;
constexpr int64_t kMinute = 60'000 * kNsPerMs;

// Messages differ in numbers (ports, times, sizes) without telling anything new.
std::string kind_of(const Error& error) {
  std::string kind = error.message;
  std::erase_if(kind, [](unsigned char c) { return std::isdigit(c) != 0; });
  return kind;
}

}  // namespace

std::optional<std::string> Outage::failed(const Error& error, int64_t now_ns) {
  if (!since_ns_) {
    since_ns_ = now_ns;
    told_ = false;
    if (!ended_ns_ || now_ns - *ended_ns_ > kMinute) kinds_.clear();
  }
  const bool is_new = kinds_.size() < kKindsMax && kinds_.insert(kind_of(error)).second;
  const bool lasts = !told_ && now_ns - *since_ns_ > kMinute;
  if (!is_new && !lasts) return std::nullopt;
  const std::string again = told_ ? " still fail: " : " fail, trying again until they work: ";
  told_ = true;
  return what_ + again + error.message;
}

std::optional<std::string> Outage::succeeded(const std::string& rest, int64_t now_ns) {
  if (!since_ns_) return std::nullopt;
  const int64_t lasted = now_ns - *since_ns_;
  since_ns_.reset();
  ended_ns_ = now_ns;
  if (!told_) return std::nullopt;
  return what_ + " work again after " + describe_duration(lasted) +
         (rest.empty() ? "" : "; " + rest);
}

std::string describe_duration(int64_t ns) {
  const int64_t ms = ns / kNsPerMs;
  if (ms < 10'000) return std::to_string(ms) + " ms";
  if (ms < 600'000) return std::to_string(ms / 1000) + " s";
  const int64_t minutes = ms / 60'000;
  if (minutes < 120) return std::to_string(minutes) + " min";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

}  // namespace walfs
