#include "replicator/stores/s3_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace walfs {
namespace {

using ::testing::HasSubstr;

S3Url place() {
  S3Url url;
  url.bucket = "box";
  url.endpoint = "https://s3.example";
  url.region = "here";
  return url;
}

struct Answer {
  HttpResponse response;
  std::optional<S3ErrorBody> body;
};

Answer make_answer(int status, const std::string& code = "", const std::string& region = "") {
  Answer made;
  made.response.status = status;
  if (!code.empty()) made.body = S3ErrorBody{code, "", region};
  return made;
}

S3Verdict verdict(int status, const std::string& code = "") {
  const Answer made = make_answer(status, code);
  return s3_verdict(made.response, made.body);
}

Error error(const Answer& made) {
  return s3_error(place(), "cannot upload log/1", made.response, made.body);
}

TEST(S3Verdict, TriesPassingFaultsAgain) {
  for (const int status : {500, 502, 503, 504, 429, 408}) {
    EXPECT_EQ(verdict(status), S3Verdict::kAgain) << status;
  }
  EXPECT_EQ(verdict(400, "RequestTimeout"), S3Verdict::kAgain);
  EXPECT_EQ(verdict(503, "SlowDown"), S3Verdict::kAgain);
  EXPECT_EQ(verdict(409, "OperationAborted"), S3Verdict::kAgain);
}

TEST(S3Verdict, DoesNotRepeatWhatWouldFailAgain) {
  for (const int status : {200, 204, 206, 301, 307, 400, 401, 403, 404, 405, 409, 412, 416, 501}) {
    EXPECT_EQ(verdict(status), S3Verdict::kFinal) << status;
  }
}

TEST(S3Verdict, SeesAnErrorInsideASuccess) {
  EXPECT_EQ(verdict(200, "InternalError"), S3Verdict::kAgain);
  const Answer made = make_answer(200, "InvalidPart");
  EXPECT_EQ(s3_verdict(made.response, made.body), S3Verdict::kFinal);
  EXPECT_EQ(error(made).code, Errc::kUsage);
}

TEST(S3Verdict, KnowsAWrongClock) {
  EXPECT_EQ(verdict(403, "RequestTimeTooSkewed"), S3Verdict::kWrongClock);
}

TEST(S3ErrorText, SaysWhatToCheckWhenAccessIsDenied) {
  const std::pair<const char*, const char*> cases[] = {{"SignatureDoesNotMatch", "secret key"},
                                                       {"InvalidAccessKeyId", "access key"},
                                                       {"AccessDenied", "permissions"},
                                                       {"ExpiredToken", "new credentials"},
                                                       {"", "permissions"},
                                                       {"AccountProblem", "AccountProblem"}};
  for (const auto& [code, text] : cases) {
    const Error found = error(make_answer(403, code));
    EXPECT_EQ(found.code, Errc::kDenied) << code;
    EXPECT_THAT(found.message, HasSubstr(text)) << code;
  }
}

TEST(S3ErrorText, TellsToCreateTheBucket) {
  const Error found = error(make_answer(404, "NoSuchBucket"));
  EXPECT_EQ(found.code, Errc::kNothingThere);
  EXPECT_EQ(found.message,
            "cannot upload log/1: the bucket box does not exist at https://s3.example; create it "
            "first");
}

TEST(S3ErrorText, NamesTheRightRegion) {
  const Error by_body = error(make_answer(400, "AuthorizationHeaderMalformed", "eu-west-1"));
  EXPECT_EQ(by_body.code, Errc::kUsage);
  EXPECT_THAT(by_body.message, HasSubstr("write region=eu-west-1"));

  Answer by_header = make_answer(301, "PermanentRedirect");
  by_header.response.headers = {{"x-amz-bucket-region", "eu-west-2"}};
  EXPECT_THAT(error(by_header).message, HasSubstr("write region=eu-west-2"));
}

TEST(S3ErrorText, DoesNotRepeatAnOddRegion) {
  const Error found = error(make_answer(301, "PermanentRedirect", "x; rm -rf"));
  EXPECT_THAT(found.message, HasSubstr("check endpoint and region"));
}

TEST(S3ErrorText, GivesEveryKindItsCode) {
  EXPECT_EQ(error(make_answer(503, "SlowDown")).code, Errc::kRetry);
  EXPECT_EQ(error(make_answer(412, "PreconditionFailed")).code, Errc::kConflict);
  EXPECT_EQ(error(make_answer(409, "ConcurrentModification")).code, Errc::kConflict);
  EXPECT_EQ(error(make_answer(416, "InvalidRange")).code, Errc::kDamaged);
  EXPECT_EQ(error(make_answer(501, "NotImplemented")).code, Errc::kUnsupported);
  EXPECT_EQ(error(make_answer(403, "QuotaExceeded")).code, Errc::kNoSpace);
  EXPECT_EQ(error(make_answer(507)).code, Errc::kNoSpace);
  EXPECT_EQ(error(make_answer(404, "NoSuchUpload")).code, Errc::kRetry);
  EXPECT_EQ(error(make_answer(400, "XAmzContentSHA256Mismatch")).code, Errc::kRetry);
  EXPECT_EQ(error(make_answer(400, "InvalidArgument")).code, Errc::kUsage);
}

TEST(S3FaultText, TellsTheKindsOfNetworkFaultsApart) {
  const auto fault = [](HttpFault kind) {
    HttpResponse response;
    response.fault = kind;
    response.fault_text = "because";
    return s3_fault(place(), "cannot read x", response);
  };
  EXPECT_EQ(fault(HttpFault::kNotSent).code, Errc::kRetry);
  EXPECT_THAT(fault(HttpFault::kNotSent).message, HasSubstr("cannot be reached: because"));
  EXPECT_EQ(fault(HttpFault::kBroken).code, Errc::kRetry);
  EXPECT_EQ(fault(HttpFault::kTls).code, Errc::kDenied);
  EXPECT_THAT(fault(HttpFault::kTls).message, HasSubstr("AWS_CA_BUNDLE"));
  EXPECT_EQ(fault(HttpFault::kTooLong).code, Errc::kDamaged);
  EXPECT_EQ(fault(HttpFault::kLocal).code, Errc::kIo);
}

}  // namespace
}  // namespace walfs
