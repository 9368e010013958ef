// The S3 store against a server that follows a script: what a real service does only on a bad day.
#include "replicator/stores/s3_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>

#include "tests/support/scripted_store.h"

namespace walfs {
namespace {

using testing::answer;
using ::testing::HasSubstr;
using testing::head;
using testing::http_answer;
using testing::impatient;
using ::testing::Not;
using testing::ok;
using testing::RecordedRequest;
using testing::s3_error_answer;
using testing::Scripted;
using testing::ScriptStep;
using testing::single_try;
using testing::slow_down;
using testing::Then;

TEST(S3Store, SignsWhatItSends) {
  Scripted store({ok()});
  ASSERT_TRUE(store.put("text", PutMode::kPlain).ok());
  const RecordedRequest& request = store.requests().at(0);
  EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(request.target, "/box/pre/fix/key");
  EXPECT_EQ(request.body, "text");
  EXPECT_EQ(request.header("x-amz-content-sha256"),
            "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1");
  EXPECT_EQ(request.header("x-amz-security-token"), "the-token");
  EXPECT_THAT(request.header("authorization"),
              HasSubstr("/here/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;"
                        "x-amz-date;x-amz-security-token, Signature="));
  EXPECT_THAT(request.head, Not(HasSubstr("hunter2")));
  EXPECT_THAT(request.head, Not(HasSubstr("Expect")));
}

TEST(S3Store, ReusesItsConnection) {
  Scripted store({ok(), ok(), ok()});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store.put("text", PutMode::kPlain).ok());
  EXPECT_EQ(store.requests().at(2).connection, 0);
}

TEST(S3Store, TriesAgainAfterSlowDown) {
  Scripted store({slow_down(), slow_down(), ok()});
  ASSERT_TRUE(store.put("text", PutMode::kPlain).ok());
  ASSERT_EQ(store.requests().size(), 3U);
  EXPECT_EQ(store.requests()[2].body, "text");
}

TEST(S3Store, GivesUpAtTheEndOfItsBudget) {
  Scripted store({slow_down()}, single_try());
  const Status status = store.put("text", PutMode::kPlain);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kRetry);
  EXPECT_THAT(status.error().message, HasSubstr("503 SlowDown (told you)"));
  EXPECT_EQ(store.requests().size(), 1U);
}

TEST(S3Store, DoesNotOutwaitItsBudgetForARetryAfter) {
  Scripted store({answer(s3_error_answer("503 Busy", "SlowDown", "Retry-After: 3000\r\n"))});
  EXPECT_EQ(store.put("text", PutMode::kPlain).error().code, Errc::kRetry);
  // Nor does the next call ask before that.
  const Status next = store.put("text", PutMode::kPlain);
  EXPECT_EQ(next.error().code, Errc::kRetry);
  EXPECT_THAT(next.error().message, HasSubstr("503 SlowDown"));
  EXPECT_EQ(store.requests().size(), 1U);
}

TEST(S3Store, DoesNotRepeatADenial) {
  Scripted store({answer(s3_error_answer("403 Forbidden", "AccessDenied"))});
  const Status status = store.put("text", PutMode::kPlain);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kDenied);
  EXPECT_THAT(status.error().message, Not(HasSubstr("hunter2")));
  EXPECT_EQ(store.requests().size(), 1U);
}

TEST(S3Store, TriesAgainAfterAReset) {
  Scripted store({answer("", Then::kReset), ok()});
  EXPECT_TRUE(store.put("text", PutMode::kPlain).ok());
  EXPECT_EQ(store.requests().size(), 2U);
}

TEST(S3Store, SeesThatABodyIsCutShort) {
  Scripted store({answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly", Then::kClose),
                  answer(http_answer("200 OK", "0123456789"))});
  const auto bytes = store->get("key", 100);
  ASSERT_TRUE(bytes.ok()) << bytes.error().message;
  EXPECT_EQ(as_text(bytes.value()), "0123456789");
  EXPECT_EQ(store.requests().size(), 2U);
}

TEST(S3Store, TriesAgainAfterAnErrorInASuccess) {
  const auto error = answer(s3_error_answer("200 OK", "InternalError", "ETag: \"0\"\r\n"));
  Scripted put({error, ok()});
  EXPECT_TRUE(put.put("text", PutMode::kPlain).ok());
  EXPECT_EQ(put.requests().size(), 2U);
  Scripted get({error, answer(http_answer("200 OK", "text"))});
  EXPECT_EQ(as_text(get->get("key", 1000).value()), "text");
  // The error's document is longer than what was asked for.
  Scripted part({error, answer(http_answer("206 Partial Content", "text"))});
  EXPECT_EQ(as_text(part->get_range("key", {0, 4}).value()), "text");
  EXPECT_EQ(part.requests().size(), 2U);
}

TEST(S3Store, RefusesAnAnswerThatIsLongerThanWhatWasAskedFor) {
  Scripted store({answer(http_answer("206 Partial Content", "0123456789")),
                  answer(http_answer("200 OK", std::string(100, 'x')))});
  EXPECT_EQ(store->get_range("key", {0, 4}).error().code, Errc::kDamaged);
  EXPECT_EQ(store->get("key", 99).error().code, Errc::kDamaged);
}

TEST(S3Store, BelievesASuccessWithoutAnETagOnlyWhenTheObjectIsThere) {
  const auto says_ok = answer(http_answer("200 OK", "<html>Welcome to our network</html>"));
  Scripted there({says_ok, head("Content-Length: 4\r\n")});
  EXPECT_TRUE(there.put("text", PutMode::kIfAbsent).ok());
  Scripted shorter({says_ok, head("Content-Length: 3\r\n")}, single_try());
  EXPECT_EQ(shorter.put("text", PutMode::kIfAbsent).error().code, Errc::kRetry);
  Scripted absent({says_ok, answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")},
                  single_try());
  EXPECT_EQ(absent.put("text", PutMode::kIfAbsent).error().code, Errc::kRetry);
}

TEST(S3Store, TakesNoOtherSuccessForAnObject) {
  Scripted store({answer(http_answer("206 Partial Content", "te"))});
  EXPECT_EQ(store->get("key", 100).error().code, Errc::kRetry);
}

TEST(S3Store, CountsTriesAgainstItsRate) {
  StoreOptions options;
  options.max_request_rate = 1;
  Scripted store({slow_down(), ok()}, options);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(store.put("text", PutMode::kPlain).ok());
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(S3Store, DoesNotReadMoreThanItMay) {
  Scripted store({answer("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" +
                         std::string(1 << 20, 'x'))});
  const auto bytes = store->get("key", 1000);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Errc::kDamaged);
  EXPECT_EQ(store.requests().size(), 1U);
}

TEST(S3Store, DropsTheRestOfALongErrorText) {
  Scripted store({answer(http_answer("400 Bad Request", std::string(1 << 20, 'x'))), ok()});
  EXPECT_EQ(store.put("text", PutMode::kPlain).error().code, Errc::kUsage);
  EXPECT_TRUE(store.put("text", PutMode::kPlain).ok());
}

TEST(S3Store, GivesUpAServerThatDoesNotAnswer) {
  Scripted store({answer("", Then::kStall)}, impatient());
  const Status status = store.put("text", PutMode::kPlain);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kRetry);
  EXPECT_THAT(status.error().message, HasSubstr("no answer in time"));
}

TEST(S3Store, GivesUpAServerThatDripsItsAnswer) {
  Scripted store({answer("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", Then::kDrip)},
                 impatient());
  const auto bytes = store->get("key", 100000);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Errc::kRetry);
}

TEST(S3Store, NamesTheRegionOfARedirect) {
  Scripted store({answer(s3_error_answer("301 Moved Permanently", "PermanentRedirect",
                                         "x-amz-bucket-region: eu-west-1\r\n"
                                         "Location: http://127.0.0.1:1/\r\n"))});
  const auto bytes = store->get("key", 10);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Errc::kUsage);
  EXPECT_THAT(bytes.error().message, HasSubstr("write region=eu-west-1"));
}

TEST(S3Store, RefusesWhatIsNoHttp) {
  Scripted store({answer("SSH-2.0-OpenSSH\r\n", Then::kClose)}, single_try());
  EXPECT_EQ(store.put("text", PutMode::kPlain).error().code, Errc::kRetry);
}

// --- The clock ---

std::string http_date(time_t unix_s) {
  struct tm parts {};
  char text[64];
  gmtime_r(&unix_s, &parts);
  strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
  return text;
}

ScriptStep skewed(time_t server_time) {
  return answer(s3_error_answer("403 Forbidden", "RequestTimeTooSkewed", http_date(server_time)));
}

TEST(S3StoreClock, IsCorrectedByTheServers) {
  constexpr time_t kServerTime = 1369353600;  // 2013-05-24
  Scripted store({skewed(kServerTime), ok(), ok()}, single_try());
  EXPECT_TRUE(store.put("text", PutMode::kPlain).ok());
  EXPECT_TRUE(store.put("text", PutMode::kPlain).ok());
  ASSERT_EQ(store.requests().size(), 3U);
  EXPECT_THAT(store.requests()[1].header("x-amz-date"), HasSubstr("20130524T00"));
  EXPECT_THAT(store.requests()[2].header("x-amz-date"), HasSubstr("20130524T00"));
}

TEST(S3StoreClock, IsNamedAsTheCauseWhenACorrectionDoesNotHelp) {
  const time_t server_time = time(nullptr) + 100000;
  Scripted store({skewed(server_time), skewed(server_time)});
  const Status status = store.put("text", PutMode::kPlain);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kDenied);
  EXPECT_THAT(status.error().message, HasSubstr("seconds behind its own; set the clock"));
  EXPECT_EQ(store.requests().size(), 2U);
}

// --- Ranges and lists ---

TEST(S3StoreRange, MustBeAnsweredWhole) {
  Scripted shorter({answer(http_answer("206 Partial Content", "012"))});
  EXPECT_EQ(shorter->get_range("key", {0, 4}).error().code, Errc::kDamaged);
  Scripted ignored({answer(http_answer("200 OK", "0123"))});
  EXPECT_EQ(ignored->get_range("key", {0, 4}).error().code, Errc::kUnsupported);
}

std::string list_xml(const std::string& keys, const std::string& token = "") {
  std::string xml = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>" +
                    std::string(token.empty() ? "false" : "true") + "</IsTruncated>";
  if (!token.empty()) xml += "<NextContinuationToken>" + token + "</NextContinuationToken>";
  size_t start = 0;
  while (start < keys.size()) {
    const size_t end = std::min(keys.find(' ', start), keys.size());
    xml += "<Contents><Key>" + keys.substr(start, end - start) + "</Key><Size>1</Size></Contents>";
    start = end + 1;
  }
  return http_answer("200 OK", xml + "</ListBucketResult>");
}

TEST(S3StoreList, FollowsThePages) {
  Scripted store({answer(list_xml("pre/fix/a pre/fix/b", "t/1")), answer(list_xml("", "t/2")),
                  answer(list_xml("pre/fix/c%2Bd"))});
  const auto found = store->list("", "0", 5000);
  ASSERT_TRUE(found.ok()) << found.error().message;
  ASSERT_EQ(found.value().size(), 3U);
  EXPECT_EQ(found.value()[2].key, "c+d");
  const auto& requests = store.requests();
  EXPECT_EQ(requests[0].target,
            "/box?encoding-type=url&list-type=2&max-keys=1000&prefix=pre%2Ffix%2F&"
            "start-after=pre%2Ffix%2F0");
  EXPECT_THAT(requests[1].target, HasSubstr("continuation-token=t%2F1&"));
}

TEST(S3StoreList, StopsAtItsLimitEvenIfTheServerDoesNot) {
  Scripted store({answer(list_xml("pre/fix/a pre/fix/b pre/fix/c", "t"))});
  const auto found = store->list("", "", 2);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value().size(), 2U);
  EXPECT_THAT(store.requests()[0].target, HasSubstr("max-keys=2"));
}

TEST(S3StoreList, PassesOverKeysThatAreNotOurs) {
  Scripted store({answer(list_xml("pre/fix/ pre/fix/.x pre/fix/a pre/fix/b%20c pre/fix/d/"))});
  const auto found = store->list("", "", 10);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found.value().size(), 1U);
  EXPECT_EQ(found.value()[0].key, "a");
}

TEST(S3StoreList, RefusesAServerThatBreaksTheRules) {
  EXPECT_EQ(Scripted({answer(list_xml("pre/fix/b pre/fix/a"))})->list("", "", 9).error().code,
            Errc::kUnsupported);
  EXPECT_EQ(Scripted({answer(list_xml("pre/fix/a"))})->list("", "a", 9).error().code,
            Errc::kUnsupported);
  EXPECT_EQ(Scripted({answer(list_xml("other/a"))})->list("", "", 9).error().code, Errc::kDamaged);
  EXPECT_EQ(Scripted({answer(list_xml("pre/fix/x"))})->list("a", "", 9).error().code,
            Errc::kDamaged);
  EXPECT_EQ(Scripted({answer(list_xml("", "t")), answer(list_xml("", "t"))})
                ->list("", "", 9)
                .error()
                .code,
            Errc::kDamaged);
  EXPECT_EQ(Scripted({answer(http_answer("200 OK", "<html>"))})->list("", "", 9).error().code,
            Errc::kDamaged);
}

TEST(S3StoreRemove, CountsAMissingObjectAsRemoved) {
  Scripted store({answer(http_answer("204 No Content", "")),
                  answer(s3_error_answer("404 Not Found", "NoSuchKey")),
                  answer(s3_error_answer("404 Not Found", "NoSuchBucket"))});
  EXPECT_TRUE(store->remove("key").ok());
  EXPECT_TRUE(store->remove("key").ok());
  EXPECT_EQ(store->remove("key").error().code, Errc::kNothingThere);
}

}  // namespace
}  // namespace walfs
