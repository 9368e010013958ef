// Conditional puts and uploads in parts, against a server that follows a script.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replicator/stores/s3_upload.h"
#include "tests/support/scripted_store.h"

namespace walfs {
namespace {

using testing::answer;
using testing::close_without_answer;
using ::testing::HasSubstr;
using testing::head;
using testing::head_with_mark_of;
using testing::http_answer;
using testing::ok;
using testing::precondition_failed;
using testing::s3_error_answer;
using testing::Scripted;
using testing::ScriptStep;

// --- Conditional puts ---

TEST(S3StoreIfAbsent, LosesAgainstAnObjectThatIsThere) {
  Scripted store({precondition_failed()});
  EXPECT_EQ(store.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
  ASSERT_EQ(store.requests().size(), 1U);
  EXPECT_EQ(store.requests()[0].header("if-none-match"), "*");
}

TEST(S3StoreIfAbsent, KnowsItsOwnObjectAfterALostAnswer) {
  Scripted store({close_without_answer(), precondition_failed(), head_with_mark_of(0)});
  const Status status = store.put("text", PutMode::kIfAbsent);
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(store.requests().at(2).method, "HEAD");
}

TEST(S3StoreIfAbsent, KnowsItsOwnObjectAfterAServerError) {
  Scripted store({answer(s3_error_answer("500 Oops", "InternalError")), precondition_failed(),
                  head_with_mark_of(0)});
  EXPECT_TRUE(store.put("text", PutMode::kIfAbsent).ok());
}

// libcurl would send the request a second time by itself and hide that from us.
TEST(S3StoreIfAbsent, SeesALostAnswerOnAReusedConnection) {
  Scripted store({ok(), close_without_answer(), precondition_failed(), head_with_mark_of(1)});
  ASSERT_TRUE(store.put("text", PutMode::kPlain).ok());
  const Status status = store.put("text", PutMode::kIfAbsent);
  EXPECT_TRUE(status.ok()) << status.error().message;
  ASSERT_EQ(store.requests().size(), 4U);
  EXPECT_EQ(store.requests()[1].connection, 0);
}

TEST(S3StoreIfAbsent, TellsAnothersObjectFromItsOwn) {
  Scripted store({close_without_answer(), precondition_failed(),
                  head("Content-Length: 4\r\nx-amz-meta-walfs-put: another\r\n")});
  EXPECT_EQ(store.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
}

TEST(S3StoreIfAbsent, ComparesTheContentWhenThereIsNoMark) {
  const auto content = [](const std::string& text) {
    return answer(http_answer("206 Partial Content", text));
  };
  Scripted same({close_without_answer(), precondition_failed(), head("Content-Length: 4\r\n"),
                 content("text")});
  EXPECT_TRUE(same.put("text", PutMode::kIfAbsent).ok());
  Scripted other({close_without_answer(), precondition_failed(), head("Content-Length: 4\r\n"),
                  content("TEXT")});
  EXPECT_EQ(other.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
  Scripted longer({close_without_answer(), precondition_failed(), head("Content-Length: 5\r\n")});
  EXPECT_EQ(longer.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
}

TEST(S3StoreIfAbsent, AsksAgainWhileTheRaceIsUndecided) {
  const auto undecided = answer(s3_error_answer("409 Conflict", "ConditionalRequestConflict"));
  Scripted wins({undecided, ok()});
  EXPECT_TRUE(wins.put("text", PutMode::kIfAbsent).ok());
  Scripted loses({undecided, precondition_failed()});
  EXPECT_EQ(loses.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
}

TEST(S3StoreIfAbsent, LooksBeforeItPutsWhereTheServiceRefusesTheCondition) {
  const auto absent = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  for (const char* refusal : {"501 Not Implemented", "400 Bad Request"}) {
    Scripted store({answer(s3_error_answer(refusal, "NotImplemented")), absent, ok(), absent, ok(),
                    head("Content-Length: 4\r\n")});
    EXPECT_TRUE(store->has_conditional_put());
    EXPECT_TRUE(store.put("text", PutMode::kIfAbsent).ok());
    EXPECT_FALSE(store->has_conditional_put());
    EXPECT_TRUE(store.put("text", PutMode::kIfAbsent).ok());
    EXPECT_EQ(store.put("text", PutMode::kIfAbsent).error().code, Errc::kConflict);
    ASSERT_EQ(store.requests().size(), 6U);
    for (const size_t put : {size_t{2}, size_t{4}}) {
      EXPECT_EQ(store.requests()[put].header("if-none-match"), "");
    }
  }
}

TEST(S3StoreIfAbsent, KeepsTheConditionWhenTheUploadFailsWithoutItToo) {
  const auto bad = answer(s3_error_answer("400 Bad Request", "InvalidRequest"));
  Scripted store({bad, answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), bad});
  EXPECT_EQ(store.put("text", PutMode::kIfAbsent).error().code, Errc::kUsage);
  EXPECT_TRUE(store->has_conditional_put());
}

// --- Uploads in parts ---

constexpr size_t kTwoParts = kS3PartSize + 5;

ScriptStep upload_begun() {
  return answer(http_answer("200 OK",
                            "<InitiateMultipartUploadResult><UploadId>up/1</UploadId>"
                            "</InitiateMultipartUploadResult>"));
}
ScriptStep part(const std::string& etag) {
  return answer(http_answer("200 OK", "", "ETag: \"" + etag + "\"\r\n"));
}
ScriptStep completed() {
  return answer(http_answer("200 OK", "<CompleteMultipartUploadResult/>"));
}
ScriptStep error_in_success(const std::string& code) {
  return answer(s3_error_answer("200 OK", code));
}

TEST(S3StoreParts, GoUpOneAfterTheOther) {
  Scripted store({upload_begun(), part("one"), part("two"), completed()});
  const Status status = store.put(std::string(kTwoParts, 'x'), PutMode::kPlain);
  ASSERT_TRUE(status.ok()) << status.error().message;
  const auto& requests = store.requests();
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(requests[0].target, "/box/pre/fix/key?uploads=");
  EXPECT_EQ(requests[1].target, "/box/pre/fix/key?partNumber=1&uploadId=up%2F1");
  EXPECT_EQ(requests[1].body.size(), kS3PartSize);
  EXPECT_EQ(requests[2].body, "xxxxx");
  EXPECT_THAT(requests[3].body, HasSubstr("<PartNumber>2</PartNumber><ETag>\"two\"</ETag>"));
}

TEST(S3StoreParts, AreCompletedAgainAfterAPassingErrorInASuccess) {
  Scripted store(
      {upload_begun(), part("one"), part("two"), error_in_success("InternalError"), completed()});
  EXPECT_TRUE(store.put(std::string(kTwoParts, 'x'), PutMode::kPlain).ok());
}

TEST(S3StoreParts, AreAbortedAfterALastingErrorInASuccess) {
  Scripted store({upload_begun(), part("one"), part("two"), error_in_success("InvalidPart"),
                  answer(http_answer("204 No Content", ""))});
  EXPECT_FALSE(store.put(std::string(kTwoParts, 'x'), PutMode::kPlain).ok());
  ASSERT_EQ(store.requests().size(), 5U);
  EXPECT_EQ(store.requests()[4].method, "DELETE");
  EXPECT_EQ(store.requests()[4].target, "/box/pre/fix/key?uploadId=up%2F1");
}

TEST(S3StoreParts, AreAbortedWhenOneHasNoETag) {
  Scripted store({upload_begun(), answer(http_answer("200 OK", "")),
                  answer("HTTP/1.1 204 No Content\r\n\r\n")});
  EXPECT_EQ(store.put(std::string(kTwoParts, 'x'), PutMode::kPlain).error().code, Errc::kDamaged);
  EXPECT_EQ(store.requests().at(2).method, "DELETE");
}

TEST(S3StoreParts, AreFoundCompletedAfterALostAnswer) {
  Scripted store({upload_begun(), part("one"), part("two"), close_without_answer(),
                  answer(s3_error_answer("404 Not Found", "NoSuchUpload")), head_with_mark_of(0)});
  const Status status = store.put(std::string(kTwoParts, 'x'), PutMode::kPlain);
  EXPECT_TRUE(status.ok()) << status.error().message;
}

TEST(S3StoreParts, AreNotSentWhenTheObjectIsThere) {
  Scripted store({head("Content-Length: 4\r\n")});
  EXPECT_EQ(store.put(std::string(kTwoParts, 'x'), PutMode::kIfAbsent).error().code,
            Errc::kConflict);
  EXPECT_EQ(store.requests().size(), 1U);
}

TEST(S3StoreParts, LoseAgainstAnObjectThatCameMeanwhile) {
  Scripted store({answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), upload_begun(),
                  part("one"), part("two"), precondition_failed(),
                  answer(http_answer("204 No Content", ""))});
  EXPECT_EQ(store.put(std::string(kTwoParts, 'x'), PutMode::kIfAbsent).error().code,
            Errc::kConflict);
  EXPECT_EQ(store.requests().at(4).header("if-none-match"), "*");
}

TEST(S3StoreParts, GrowWhenTheyWouldBeTooMany) {
  EXPECT_EQ(s3_part_size(kTwoParts), kS3PartSize);
  for (const uint64_t size :
       {kS3PartSize * kS3PartsMax, kS3PartSize * kS3PartsMax + 1, uint64_t{5} << 40}) {
    EXPECT_LE((size + s3_part_size(size) - 1) / s3_part_size(size), kS3PartsMax) << size;
  }
}

}  // namespace
}  // namespace walfs
