// HTTP/1.1 by libcurl: one request at a time per call, connections kept and reused.
//
// Knows nothing of S3 and never tries again: it reports what happened so that its caller can
// decide. Thread-safe; each running call has a connection of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/stores/store.h"
#include "replicator/stores/uri.h"

namespace walfs {

struct HttpLimits {
  unsigned connect_timeout_ms = 10000;
  unsigned progress_timeout_ms = 30000;  // Given up when no byte moved for that long.
  std::string ca_bundle;                 // "" = the system's.
};

struct HttpRequest {
  std::string method;
  std::string url;
  std::vector<NameValue> headers;
  const ObjectBody* body = nullptr;  // nullptr = none. Not owned.
  uint64_t max_response = 0;         // A longer body of a 2xx answer is kTooLong.
};

enum class HttpFault {
  kNone,     // `status` and the whole body are there.
  kNotSent,  // No connection: the server has not seen the request.
  kBroken,   // Reset, closed, timed out or truncated: the server may have carried it out.
  kTls,      // The server's certificate or protocol is not acceptable.
  kTooLong,  // The answer is longer than max_response; its first 64 KiB at most are there.
  kLocal,    // The body could not be read, or libcurl failed here.
};

struct HttpResponse {
  HttpFault fault = HttpFault::kNone;
  std::string fault_text;  // For people, when there is a fault.
  int status = 0;
  std::vector<NameValue> headers;  // Names in lower case, at most 100.
  Bytes body;  // Of an answer other than 2xx, or one that is too long: the first 64 KiB at most.
};

// "" when there is none.
std::string header_value(const std::vector<NameValue>& headers, const std::string& lower_name);

class HttpClient {
 public:
  explicit HttpClient(HttpLimits limits);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpResponse perform(const HttpRequest& request);

 private:
  class Handles;
  const HttpLimits limits_;
  std::unique_ptr<Handles> handles_;
};

}  // namespace walfs
