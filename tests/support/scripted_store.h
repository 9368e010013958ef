// The S3 store before a server that follows a script, and the answers of such scripts.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "replicator/stores/s3_store.h"
#include "tests/support/scripted_server.h"

namespace walfs::testing {

using Then = ScriptedAnswer::Then;

inline constexpr const char* kMark = "x-amz-meta-walfs-put";

// A store whose server follows the script.
class Scripted {
 public:
  explicit Scripted(std::vector<ScriptStep> script, const StoreOptions& options = {})
      : server_(std::move(script)) {
    S3Url url;
    url.bucket = "box";
    url.prefix = "pre/fix";
    url.endpoint = server_.url();
    url.region = "here";
    url.path_style = true;
    store_ =
        std::make_unique<S3Store>(url, Credentials{"the-id", "hunter2", "the-token"}, options, "");
  }
  S3Store* operator->() { return store_.get(); }
  Store& store() { return *store_; }
  Status put(const std::string& text, PutMode mode) {
    return store_->put("key", ObjectBody::of(text), mode);
  }
  const std::vector<RecordedRequest>& requests() { return server_.stop(); }

 private:
  ScriptedServer server_;
  std::unique_ptr<S3Store> store_;
};

inline StoreOptions single_try() {
  StoreOptions options;
  options.retry_budget_ms = 0;
  return options;
}

inline StoreOptions impatient() {
  StoreOptions options = single_try();
  options.request_timeout_ms = 50;
  return options;
}

inline ScriptStep ok() {
  return answer(http_answer("200 OK", "", "ETag: \"etag\"\r\n"));
}
inline ScriptStep slow_down() {
  return answer(s3_error_answer("503 Service Unavailable", "SlowDown", "Retry-After: 0\r\n"));
}
inline ScriptStep precondition_failed() {
  return answer(s3_error_answer("412 Precondition Failed", "PreconditionFailed"));
}
// A HEAD of the object that carries the mark of request `number`.
inline ScriptStep head_with_mark_of(size_t number, Then then = Then::kKeep) {
  return [number, then](const std::vector<RecordedRequest>& requests) {
    return ScriptedAnswer{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n" + std::string(kMark) + ": " +
                              requests[number].header(kMark) + "\r\n\r\n",
                          then};
  };
}
inline ScriptStep head(const std::string& headers) {
  return answer("HTTP/1.1 200 OK\r\n" + headers + "\r\n");
}

}  // namespace walfs::testing
