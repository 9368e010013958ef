// What the answer of an S3 service means: for the next try, and for a person. Pure.
#pragma once

#include <optional>
#include <string>

#include "replicator/base/result.h"
#include "replicator/stores/http_client.h"
#include "replicator/stores/s3_xml.h"
#include "replicator/stores/store_url.h"

namespace walfs {

enum class S3Verdict {
  kFinal,       // A success, or a failure that would only repeat itself.
  kAgain,       // A passing fault: try again later.
  kWrongClock,  // The service's clock and ours differ: correct ours by its Date header.
};

// A 200 can still carry an error: its status was sent before the work was done.
S3Verdict s3_verdict(const HttpResponse& response, const std::optional<S3ErrorBody>& body);

// The Error for a failed answer. `action` says what was tried ("cannot upload log/0/1.seg").
Error s3_error(const S3Url& url, const std::string& action, const HttpResponse& response,
               const std::optional<S3ErrorBody>& body);

// The Error for a request without an answer.
Error s3_fault(const S3Url& url, const std::string& action, const HttpResponse& response);

}  // namespace walfs
