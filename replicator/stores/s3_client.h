// One signed S3 request with its retries. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "replicator/stores/http_client.h"
#include "replicator/stores/request_rate.h"
#include "replicator/stores/s3_error.h"
#include "replicator/stores/sigv4.h"
#include "replicator/stores/store_url.h"

namespace walfs {

struct S3Call {
  std::string action;  // For messages: "cannot upload log/0/1.seg".
  std::string method;
  std::string key;  // With the replica's prefix; "" = the bucket itself.
  std::vector<NameValue> query;
  std::vector<NameValue> headers;
  const ObjectBody* body = nullptr;
  uint64_t max_response = kMaxS3XmlSize;
};

struct S3Reply {
  HttpResponse response;             // Without a fault.
  std::optional<S3ErrorBody> error;  // What the body says, for a failure.
  bool repeated = false;             // An earlier try got no answer and may have taken effect.
  bool ok() const { return response.status >= 200 && response.status < 300 && !error; }
};

class S3Client {
 public:
  S3Client(S3Url url, Credentials credentials, const StoreOptions& options,
           const std::string& ca_bundle);

  // The last answer, good or bad; an Error when there was none or when the retry budget is spent.
  // If the service then asked for a longer pause (Retry-After), calls wait for its
  // end or fail at once.
  Result<S3Reply> call(const S3Call& call);
  // The Error for an answer that the caller cannot use.
  Error error(const S3Call& call, const S3Reply& reply) const;

  const S3Url& url() const { return url_; }

 private:
  HttpResponse send_once(const S3Call& call, const std::string& payload_sha256);
  Status sit_out_pause();
  void begin_pause(unsigned retry_after_ms, const Error& error);
  bool adjust_clock(const HttpResponse& response);
  int64_t now_s() const;

  const S3Url url_;
  const S3Target target_;
  const Credentials credentials_;
  const unsigned retry_budget_ms_;
  HttpClient http_;
  RequestRate rate_;
  std::mutex pause_mutex_;
  std::chrono::steady_clock::time_point pause_end_;  // Nobody asks before it.
  Error pause_error_;
  std::atomic<int64_t> clock_offset_s_{0};  // Added to our clock to get the service's.
};

}  // namespace walfs
