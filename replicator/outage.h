// What the log says of work that fails and is tried again: the kinds of failure once each, and at
// the end how long it took. Pure: time is an argument (steady clock, ns). Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "replicator/base/result.h"

namespace walfs {

// The longest pause between two attempts of an upload.
constexpr int64_t kUploadBackoffMaxMs = 15000;

class Outage {
 public:
  // `what` begins the lines: "uploads to s3://bucket/app".
  explicit Outage(std::string what) : what_(std::move(what)) {}

  // Notes a failure; the line to log if it tells something new. An outage has at most 8 of them.
  // One that follows another closely is told of only when it has a new reason or lasts.
  std::optional<std::string> failed(const Error& error, int64_t now_ns);
  // Notes a success; the line that ends an outage that was told of. `rest` is what is left to do
  // ("12 segments (40 KiB) wait"), or "".
  std::optional<std::string> succeeded(const std::string& rest, int64_t now_ns);

  std::optional<int64_t> since_ns() const { return since_ns_; }

 private:
  const std::string what_;
  std::optional<int64_t> since_ns_;
  std::optional<int64_t> ended_ns_;
  bool told_ = false;  // Of this outage.
  std::set<std::string> kinds_;
};

// "400 ms", "12 s", "5 min", "3 h 20 min".
std::string describe_duration(int64_t ns);

}  // namespace walfs
