#include "replicator/stores/sigv4.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "replicator/base/digest.h"

namespace walfs {
namespace {

std::vector<NameValue> pairs(const nlohmann::json& list) {
  std::vector<NameValue> out;
  for (const auto& pair : list) out.emplace_back(pair[0], pair[1]);
  return out;
}

nlohmann::json load_vectors() {
  std::ifstream file(WALFS_TEST_DATA "/sigv4/vectors.json");
  return nlohmann::json::parse(file);
}

SigV4Request request_of(const nlohmann::json& vector) {
  SigV4Request request;
  request.method = vector["method"];
  request.path = vector["path"];
  request.query = pairs(vector["query"]);
  request.headers = pairs(vector["headers"]);
  request.payload_sha256 = to_hex(sha256(as_bytes(vector["body"].get<std::string>())));
  return request;
}

TEST(SigV4, GivesThePublishedSignatures) {
  const nlohmann::json vectors = load_vectors();
  ASSERT_EQ(vectors.size(), 16U);
  for (const auto& vector : vectors) {
    SCOPED_TRACE(vector["name"].get<std::string>());
    const SigV4Scope scope{"us-east-1", vector["service"], vector["time"]};
    const std::string to_sign =
        sigv4_string_to_sign(scope, sigv4_canonical_request(request_of(vector)));
    EXPECT_EQ(sigv4_signature(vector["secret_key"], scope, to_sign),
              vector["signature"].get<std::string>());
  }
}

TEST(SigV4, WritesTheAuthorizationHeaderAsAwsShowsIt) {
  const nlohmann::json vector = load_vectors()[0];
  const SigV4Scope scope{"us-east-1", "service", "20150830T123600Z"};
  EXPECT_EQ(sigv4_authorization({vector["access_key"], vector["secret_key"], ""}, scope,
                                request_of(vector)),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

TEST(SigV4, MakesTheCanonicalRequestOfTheS3Example) {
  const nlohmann::json vectors = load_vectors();
  const auto at = std::find_if(vectors.begin(), vectors.end(), [](const nlohmann::json& vector) {
    return vector["name"] == "s3-get-bucket-lifecycle";
  });
  ASSERT_NE(at, vectors.end());
  const std::string empty = to_hex(sha256({}));
  EXPECT_EQ(
      sigv4_canonical_request(request_of(*at)),
      "GET\n/\nlifecycle=\nhost:examplebucket.s3.amazonaws.com\nx-amz-content-sha256:" + empty +
          "\nx-amz-date:20130524T000000Z\n\nhost;x-amz-content-sha256;x-amz-date\n" + empty);
}

TEST(SigV4, WritesTimesInUtc) {
  EXPECT_EQ(sigv4_time(1440938160), "20150830T123600Z");
  EXPECT_EQ(sigv4_time(0), "19700101T000000Z");
}

TEST(UriEncode, KeepsOnlyUnreservedCharacters) {
  EXPECT_EQ(uri_encode("aZ09-._~", Slashes::kEncode), "aZ09-._~");
  EXPECT_EQ(uri_encode("a b+c=d/e", Slashes::kKeep), "a%20b%2Bc%3Dd/e");
  EXPECT_EQ(uri_encode("/\xff", Slashes::kEncode), "%2F%FF");
}

TEST(UriDecode, UndoesTheEncoding) {
  EXPECT_EQ(uri_decode("a%20b%2bc+d", Plus::kPlus), "a b+c+d");
  EXPECT_EQ(uri_decode("a+b", Plus::kSpace), "a b");
}

TEST(UriDecode, RefusesAHalfEscape) {
  for (const char* text : {"%", "%1", "%zz", "a%2"}) {
    EXPECT_EQ(uri_decode(text, Plus::kPlus), std::nullopt) << text;
  }
}

TEST(CanonicalQuery, SortsByTheEncodedNameThenValue) {
  EXPECT_EQ(canonical_query({{"b", "2"}, {"a", "z"}, {"a", "y"}, {"uploads", ""}}),
            "a=y&a=z&b=2&uploads=");
}

}  // namespace
}  // namespace walfs
