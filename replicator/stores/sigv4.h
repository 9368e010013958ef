// AWS Signature Version 4 in the Authorization header, as S3 and its kin check it:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
// Paths are encoded once and not normalised, which is the rule for S3. Pure: the time is an
// argument.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replicator/stores/uri.h"

namespace walfs {

struct Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // "" when there is none.
};

struct SigV4Scope {
  std::string region;
  std::string service;
  std::string time;  // 20150830T123600Z, the same as the request's x-amz-date.
};

// All that is signed; neither path nor query nor headers are encoded. The headers include Host and
// X-Amz-Date.
struct SigV4Request {
  std::string method;
  std::string path;  // Starts with a slash.
  std::vector<NameValue> query;
  std::vector<NameValue> headers;
  std::string payload_sha256;  // In hex.
};

// "20150830T123600Z" for seconds since 1970.
std::string sigv4_time(int64_t unix_s);

// The three steps of the signature, separate because AWS publishes their results separately.
std::string sigv4_canonical_request(const SigV4Request& request);
std::string sigv4_string_to_sign(const SigV4Scope& scope, const std::string& canonical_request);
std::string sigv4_signature(const std::string& secret, const SigV4Scope& scope,
                            const std::string& string_to_sign);

// The value of the Authorization header.
std::string sigv4_authorization(const Credentials& credentials, const SigV4Scope& scope,
                                const SigV4Request& request);

}  // namespace walfs
