#include "replicator/stores/s3_error.h"

#include <algorithm>
#include <string_view>

namespace walfs {
namespace {

std::string place(const S3Url& url) {
  if (!url.endpoint.empty()) return url.endpoint;
  return "AWS" + (url.region.empty() ? std::string() : " region " + url.region);
}

// "503 SlowDown (Please reduce your request rate)".
std::string answer_text(const HttpResponse& response, const std::optional<S3ErrorBody>& body) {
  std::string text = std::to_string(response.status);
  if (body && !body->code.empty()) text += " " + body->code;
  if (body && !body->message.empty()) text += " (" + body->message + ")";
  return text;
}

Error denied(const S3Url& url, const std::string& action, const std::string& code,
             const std::string& answer) {
  std::string reason;
  if (code == "SignatureDoesNotMatch") {
    reason = " does not accept the secret key: check that it belongs to the access key";
  } else if (code == "InvalidAccessKeyId") {
    reason = " does not know the access key: check that it belongs to this service";
  } else if (code == "ExpiredToken" || code == "InvalidToken") {
    reason = " does not accept the session token any more: get new credentials";
  } else if (code == "AccessDenied" || code.empty()) {
    reason = " denies access to bucket " + url.bucket + ": check the permissions of the access key";
  } else {
    reason = " refuses with " + answer;
  }
  return Error{Errc::kDenied, action + ": " + place(url) + reason};
}

// Where the bucket really is, when the answer says so.
std::string right_region(const HttpResponse& response, const std::optional<S3ErrorBody>& body) {
  std::string region = header_value(response.headers, "x-amz-bucket-region");
  if (region.empty() && body) region = body->region;
  const bool sane =
      region.size() <= 64 && std::all_of(region.begin(), region.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
      });
  return sane ? region : "";
}

Error redirected(const S3Url& url, const std::string& action, const HttpResponse& response,
                 const std::optional<S3ErrorBody>& body) {
  const std::string region = right_region(response, body);
  if (!region.empty()) {
    return Error{Errc::kUsage, action + ": bucket " + url.bucket + " is in region " + region +
                                   "; write region=" + region + " in the replica's URL"};
  }
  return Error{Errc::kUsage, action + ": bucket " + url.bucket + " is not at " + place(url) + " (" +
                                 answer_text(response, body) +
                                 "); check endpoint and region in the replica's URL"};
}

// What came through differs from what was sent: a fault on the way, not of the request.
bool arrived_damaged(const std::string& code) {
  return code == "XAmzContentSHA256Mismatch" || code == "BadDigest" || code == "IncompleteBody";
}

Error missing(const S3Url& url, const std::string& action, const std::string& code) {
  if (code == "NoSuchBucket") {
    return Error{Errc::kNothingThere, action + ": the bucket " + url.bucket +
                                          " does not exist at " + place(url) + "; create it first"};
  }
  if (code == "NoSuchUpload") {
    return Error{Errc::kRetry, action + ": " + place(url) + " has given up the upload in parts"};
  }
  return Error{Errc::kNothingThere,
               action + ": there is no such object in bucket " + url.bucket + " at " + place(url)};
}

}  // namespace

S3Verdict s3_verdict(const HttpResponse& response, const std::optional<S3ErrorBody>& body) {
  static constexpr std::string_view kPassing[] = {"RequestTimeout", "SlowDown", "InternalError",
                                                  "ServiceUnavailable", "OperationAborted"};
  const std::string code = body ? body->code : "";
  if (code == "RequestTimeTooSkewed") return S3Verdict::kWrongClock;
  if (response.status >= 200 && response.status < 300 && !body) return S3Verdict::kFinal;
  if (std::find(std::begin(kPassing), std::end(kPassing), code) != std::end(kPassing)) {
    return S3Verdict::kAgain;
  }
  // 501 (cannot do that) and 507 (full) are answers for good.
  const bool server_fault =
      response.status >= 500 && response.status != 501 && response.status != 507;
  return server_fault || response.status == 429 || response.status == 408 ? S3Verdict::kAgain
                                                                          : S3Verdict::kFinal;
}

Error s3_error(const S3Url& url, const std::string& action, const HttpResponse& response,
               const std::optional<S3ErrorBody>& body) {
  const std::string code = body ? body->code : "";
  const std::string answer = answer_text(response, body);
  if (s3_verdict(response, body) == S3Verdict::kAgain) {
    return Error{Errc::kRetry, action + ": " + place(url) + " answers " + answer};
  }
  if (response.status >= 300 && response.status < 400) {
    return redirected(url, action, response, body);
  }
  if (code == "AuthorizationHeaderMalformed" || code == "IncorrectEndpoint" ||
      (response.status == 400 && !right_region(response, body).empty())) {
    return redirected(url, action, response, body);
  }
  if (response.status == 507 || code == "QuotaExceeded" || code == "XMinioStorageFull") {
    return Error{Errc::kNoSpace, action + ": bucket " + url.bucket + " is full: " + answer};
  }
  if (arrived_damaged(code)) {
    return Error{Errc::kRetry, action + ": it arrived damaged at " + place(url) + ": " + answer};
  }
  switch (response.status) {
    case 401:
    case 403:
      return denied(url, action, code, answer);
    case 404:
      return missing(url, action, code);
    case 409:
    case 412:
      return Error{Errc::kConflict, action + ": it is there already (" + answer + ")"};
    case 416:
      return Error{Errc::kDamaged, action + ": the object is shorter than expected"};
    case 501:
    case 405:
      return Error{Errc::kUnsupported, action + ": " + place(url) + " cannot do this: " + answer};
    default:
      break;
  }
  return Error{Errc::kUsage, action + ": " + place(url) + " refuses with " + answer};
}

Error s3_fault(const S3Url& url, const std::string& action, const HttpResponse& response) {
  switch (response.fault) {
    case HttpFault::kTls:
      // A clock that is just being set or a proxy in the way can cause it: later may be better.
      return Error{Errc::kDenied, action + ": no trusted connection to " + place(url) + ": " +
                                      response.fault_text +
                                      "; check its certificate (AWS_CA_BUNDLE names own roots)"};
    case HttpFault::kTooLong:
      return Error{Errc::kDamaged, action + ": the object is longer than it may be"};
    case HttpFault::kLocal:
      return Error{Errc::kIo, action + ": " + response.fault_text};
    case HttpFault::kNotSent:
      return Error{Errc::kRetry,
                   action + ": " + place(url) + " cannot be reached: " + response.fault_text};
    case HttpFault::kBroken:
    case HttpFault::kNone:
      break;
  }
  return Error{Errc::kRetry,
               action + ": the connection to " + place(url) + " failed: " + response.fault_text};
}

}  // namespace walfs
