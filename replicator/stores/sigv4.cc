#include "replicator/stores/sigv4.h"

#include <algorithm>
#include <ctime>
#include <map>

#include "replicator/base/digest.h"

namespace walfs {
namespace {

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// Without spaces around, runs of spaces made one.
std::string trimmed(const std::string& value) {
  std::string out;
  for (const char c : value) {
    const bool blank = c == ' ' || c == '\t';
    if (!blank) {
      out.push_back(c);
    } else if (!out.empty() && out.back() != ' ') {
      out.push_back(' ');
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// Sorted by name; the values of equal names joined by commas in the order given.
std::map<std::string, std::string> canonical_headers(const std::vector<NameValue>& headers) {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : headers) {
    auto [at, is_new] = out.try_emplace(lower_case(name), trimmed(value));
    if (!is_new) at->second += "," + trimmed(value);
  }
  return out;
}

std::string signed_names(const std::map<std::string, std::string>& headers) {
  std::string out;
  for (const auto& header : headers) {
    if (!out.empty()) out.push_back(';');
    out += header.first;
  }
  return out;
}

std::string credential_scope(const SigV4Scope& scope) {
  return scope.time.substr(0, 8) + "/" + scope.region + "/" + scope.service + "/aws4_request";
}

}  // namespace

std::string sigv4_time(int64_t unix_s) {
  const auto seconds = static_cast<time_t>(unix_s);
  struct tm parts {};
  char text[32] = "";
  if (gmtime_r(&seconds, &parts) != nullptr) {
    std::strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &parts);
  }
  return text;
}

std::string sigv4_canonical_request(const SigV4Request& request) {
  const auto headers = canonical_headers(request.headers);
  std::string out = request.method + "\n" + uri_encode(request.path, Slashes::kKeep) + "\n" +
                    canonical_query(request.query) + "\n";
  for (const auto& [name, value] : headers) out.append(name).append(":").append(value).append("\n");
  return out + "\n" + signed_names(headers) + "\n" + request.payload_sha256;
}

std::string sigv4_string_to_sign(const SigV4Scope& scope, const std::string& canonical_request) {
  return "AWS4-HMAC-SHA256\n" + scope.time + "\n" + credential_scope(scope) + "\n" +
         to_hex(sha256(as_bytes(canonical_request)));
}

std::string sigv4_signature(const std::string& secret, const SigV4Scope& scope,
                            const std::string& string_to_sign) {
  Sha256Digest key = hmac_sha256(as_bytes("AWS4" + secret), as_bytes(scope.time.substr(0, 8)));
  key = hmac_sha256(key, as_bytes(scope.region));
  key = hmac_sha256(key, as_bytes(scope.service));
  key = hmac_sha256(key, as_bytes("aws4_request"));
  return to_hex(hmac_sha256(key, as_bytes(string_to_sign)));
}

std::string sigv4_authorization(const Credentials& credentials, const SigV4Scope& scope,
                                const SigV4Request& request) {
  const std::string to_sign = sigv4_string_to_sign(scope, sigv4_canonical_request(request));
  return "AWS4-HMAC-SHA256 Credential=" + credentials.access_key_id + "/" +
         credential_scope(scope) +
         ", SignedHeaders=" + signed_names(canonical_headers(request.headers)) +
         ", Signature=" + sigv4_signature(credentials.secret_access_key, scope, to_sign);
}

}  // namespace walfs
