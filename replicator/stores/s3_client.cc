#include "replicator/stores/s3_client.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <thread>

#include "replicator/stores/object_body.h"
#include "replicator/stores/retry_policy.h"

namespace walfs {
namespace {

constexpr const char* kEmptySha256 =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr unsigned kPauseMaxMs = 5 * 60'000;
constexpr int64_t kMinClockOffsetS = 60;  // Services tolerate 15 minutes; less is not the cause.

uint64_t random_number() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

void wait_for_turn(RequestRate& rate) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const int64_t now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  const int64_t begin_ns = rate.reserve(now_ns);
  if (begin_ns > now_ns) std::this_thread::sleep_for(std::chrono::nanoseconds(begin_ns - now_ns));
}

uint64_t ms_since(std::chrono::steady_clock::time_point start) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                   std::chrono::steady_clock::now() - start)
                                   .count());
}

std::string skew_text(int64_t offset_s) {
  return std::to_string(offset_s < 0 ? -offset_s : offset_s) + " seconds " +
         (offset_s < 0 ? "ahead of" : "behind");
}

}  // namespace

S3Client::S3Client(S3Url url, Credentials credentials, const StoreOptions& options,
                   const std::string& ca_bundle)
    : url_(std::move(url)),
      target_(s3_target(url_)),
      credentials_(std::move(credentials)),
      retry_budget_ms_(options.retry_budget_ms),
      http_({options.connect_timeout_ms, options.request_timeout_ms, ca_bundle}),
      rate_(options.max_request_rate) {}

int64_t S3Client::now_s() const {
  return static_cast<int64_t>(std::time(nullptr)) + clock_offset_s_;
}

HttpResponse S3Client::send_once(const S3Call& call, const std::string& payload_sha256) {
  SigV4Request signed_request;
  signed_request.method = call.method;
  signed_request.path = target_.base_path + (call.key.empty() ? "" : "/" + call.key);
  if (signed_request.path.empty()) signed_request.path = "/";
  signed_request.query = call.query;
  signed_request.payload_sha256 = payload_sha256;
  const SigV4Scope scope{url_.region, "s3", sigv4_time(now_s())};
  signed_request.headers = call.headers;
  signed_request.headers.emplace_back("host", target_.host);
  signed_request.headers.emplace_back("x-amz-content-sha256", payload_sha256);
  signed_request.headers.emplace_back("x-amz-date", scope.time);
  if (!credentials_.session_token.empty()) {
    signed_request.headers.emplace_back("x-amz-security-token", credentials_.session_token);
  }

  HttpRequest request;
  request.method = call.method;
  request.url =
      target_.scheme + "://" + target_.host + uri_encode(signed_request.path, Slashes::kKeep);
  if (!call.query.empty()) request.url += "?" + canonical_query(call.query);
  request.headers = signed_request.headers;
  request.headers.emplace_back("authorization",
                               sigv4_authorization(credentials_, scope, signed_request));
  request.body = call.body;
  request.max_response = call.max_response;
  return http_.perform(request);
}

bool S3Client::adjust_clock(const HttpResponse& response) {
  const auto theirs = parse_http_date(header_value(response.headers, "date"));
  if (!theirs) return false;
  const int64_t offset = *theirs - static_cast<int64_t>(std::time(nullptr));
  const int64_t change = offset - clock_offset_s_;
  if (change > -kMinClockOffsetS && change < kMinClockOffsetS) return false;
  clock_offset_s_ = offset;
  return true;
}

// Waits for the end of a pause, or gives its reason if that is too far away.
Status S3Client::sit_out_pause() {
  std::chrono::steady_clock::time_point end;
  {
    const std::scoped_lock lock(pause_mutex_);
    end = pause_end_;
    if (end > std::chrono::steady_clock::now() + std::chrono::milliseconds(retry_budget_ms_))
      return pause_error_;
  }
  std::this_thread::sleep_until(end);
  return {};
}

void S3Client::begin_pause(unsigned retry_after_ms, const Error& error) {
  const std::scoped_lock lock(pause_mutex_);
  pause_end_ = std::chrono::steady_clock::now() +
               std::chrono::milliseconds(std::min(retry_after_ms, kPauseMaxMs));
  pause_error_ = error;
}

Result<S3Reply> S3Client::call(const S3Call& call) {
  WALFS_TRY(sit_out_pause());
  std::string payload_sha256 = kEmptySha256;
  if (call.body != nullptr) {
    WALFS_ASSIGN(payload_sha256, body_sha256(*call.body));
  }
  const auto start = std::chrono::steady_clock::now();
  S3Reply reply;
  bool clock_adjusted = false;
  for (unsigned tries = 1;; ++tries) {
    wait_for_turn(rate_);
    reply.response = send_once(call, payload_sha256);
    reply.error.reset();
    // A success can carry an error, too: some services and proxies send the status first. No
    // object of ours looks like one. It may be longer than what was asked for.
    HttpFault& fault = reply.response.fault;
    if (fault == HttpFault::kNone || fault == HttpFault::kTooLong)
      reply.error = parse_s3_error(reply.response.body);
    if (fault == HttpFault::kTooLong && reply.error) fault = HttpFault::kNone;
    unsigned retry_after_ms = 0;
    if (fault == HttpFault::kNone) {
      const S3Verdict verdict = s3_verdict(reply.response, reply.error);
      if (verdict == S3Verdict::kFinal) return reply;
      if (verdict == S3Verdict::kWrongClock) {
        if (clock_adjusted || !adjust_clock(reply.response)) return error(call, reply);
        clock_adjusted = true;
        continue;
      }
      retry_after_ms = parse_retry_after_ms(header_value(reply.response.headers, "retry-after"));
      // A 5xx may come from a proxy whose server has carried the request out.
      reply.repeated = reply.repeated || reply.response.status >= 500;
    } else if (fault == HttpFault::kBroken) {
      reply.repeated = true;
    } else if (fault != HttpFault::kNotSent) {
      return s3_fault(url_, call.action, reply.response);
    }
    const auto delay =
        retry_delay_ms(tries, random_number(), retry_after_ms, ms_since(start), retry_budget_ms_);
    if (!delay) {
      if (fault != HttpFault::kNone) return s3_fault(url_, call.action, reply.response);
      const Error failure = error(call, reply);
      if (retry_after_ms > 0) begin_pause(retry_after_ms, failure);
      return failure;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(*delay));
  }
}

Error S3Client::error(const S3Call& call, const S3Reply& reply) const {
  if (s3_verdict(reply.response, reply.error) != S3Verdict::kWrongClock) {
    return s3_error(url_, call.action, reply.response, reply.error);
  }
  const auto theirs = parse_http_date(header_value(reply.response.headers, "date"));
  const std::string how_much =
      theirs ? "is " + skew_text(*theirs - static_cast<int64_t>(std::time(nullptr))) + " its own"
             : "differs too much from its own";
  return Error{Errc::kDenied, call.action + ": the store says that this machine's clock " +
                                  how_much + "; set the clock"};
}

}  // namespace walfs
