// The S3 store against a real service, named by the environment:
//   WALFS_TEST_S3_ENDPOINT   http://host:port, the keys testak and testsk, buckets can be made
//   WALFS_TEST_S3_VIRTUAL    the same with a host whose subdomains are buckets
//   WALFS_TEST_S3_TLS        https://host:port with a certificate that only WALFS_TEST_S3_CA
//   vouches for WALFS_TEST_S3_CA         its file
// `eval "$(scripts/s3-server env DIR)"` sets them. Without them these tests fail: a skipped test
// would look like a passed one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "replicator/stores/s3_store.h"
#include "tests/support/store_conformance.h"

namespace walfs {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::StoreConformance;

constexpr const char* kBucket = "walfs-test";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  EXPECT_NE(value, nullptr) << name << " is not set; start scripts/s3-server";
  return value != nullptr ? value : "http://unset.invalid";
}

Credentials test_credentials() {
  return {"testak", "testsk", ""};
}

S3Url test_url(const char* endpoint_variable, const std::string& prefix) {
  S3Url url;
  url.bucket = kBucket;
  url.prefix = prefix;
  url.endpoint = variable(endpoint_variable);
  url.region = "us-east-1";
  url.path_style = true;
  return url;
}

std::string random_prefix() {
  return "test-" + std::to_string(std::random_device{}()) + "/" +
         std::to_string(std::random_device{}());
}

void make_bucket() {
  S3Client client(test_url("WALFS_TEST_S3_ENDPOINT", ""), test_credentials(), {}, "");
  const ObjectBody empty;
  S3Call call;
  call.action = "cannot make the bucket";
  call.method = "PUT";
  call.body = &empty;
  const auto reply = client.call(call);
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  ASSERT_TRUE(reply.value().ok() || reply.value().response.status == 409);
}

class S3StoreHolder final : public testing::StoreHolder {
 public:
  explicit S3StoreHolder(bool virtual_host) {
    make_bucket();
    S3Url url = test_url(virtual_host ? "WALFS_TEST_S3_VIRTUAL" : "WALFS_TEST_S3_ENDPOINT",
                         random_prefix());
    url.path_style = !virtual_host;
    store_ = std::make_unique<S3Store>(url, test_credentials(), StoreOptions(), "");
  }
  ~S3StoreHolder() override {  // NOLINT(bugprone-exception-escape): would end a test run.
    const auto left = store_->list("", "", 100000);
    if (!left.ok()) return;
    for (const ObjectInfo& info : left.value()) EXPECT_TRUE(store_->remove(info.key).ok());
  }
  Store& store() override { return *store_; }

 private:
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(
    S3Store, StoreConformance,
    ::testing::Values(testing::StoreFactory{[] { return std::make_unique<S3StoreHolder>(false); }},
                      testing::StoreFactory{[] { return std::make_unique<S3StoreHolder>(true); }}),
    [](const auto& instance) { return instance.index == 0 ? "PathStyle" : "VirtualHosts"; });

class S3StoreTest : public ::testing::Test {
 protected:
  void SetUp() override { make_bucket(); }
  static StoreOptions once() {
    StoreOptions options;
    options.retry_budget_ms = 0;
    return options;
  }
  static Error error_of(const S3Url& url, const Credentials& credentials,
                        const std::string& ca_bundle = "") {
    S3Store store(url, credentials, once(), ca_bundle);
    const Status status = store.put("a", ObjectBody::of("x"), PutMode::kPlain);
    EXPECT_FALSE(status.ok());
    return status.error();
  }
};

TEST_F(S3StoreTest, SaysThatTheSecretKeyIsWrong) {
  const Error error = error_of(test_url("WALFS_TEST_S3_ENDPOINT", "p"), {"testak", "hunter2", ""});
  EXPECT_EQ(error.code, Errc::kDenied);
  EXPECT_THAT(error.message, HasSubstr("secret key"));
  EXPECT_THAT(error.message, Not(HasSubstr("hunter2")));
}

TEST_F(S3StoreTest, SaysThatTheAccessKeyIsUnknown) {
  const Error error = error_of(test_url("WALFS_TEST_S3_ENDPOINT", "p"), {"nobody", "testsk", ""});
  EXPECT_EQ(error.code, Errc::kDenied);
  EXPECT_THAT(error.message, HasSubstr("access key"));
}

TEST_F(S3StoreTest, SaysThatTheBucketDoesNotExist) {
  S3Url url = test_url("WALFS_TEST_S3_ENDPOINT", "p");
  url.bucket = "walfs-no-such-bucket";
  const Error error = error_of(url, test_credentials());
  EXPECT_EQ(error.code, Errc::kNothingThere);
  EXPECT_THAT(error.message, HasSubstr("the bucket walfs-no-such-bucket does not exist at http"));
  S3Store store(url, test_credentials(), once(), "");
  EXPECT_THAT(store.get("a", 1).error().message, HasSubstr("does not exist"));
  EXPECT_THAT(store.list("", "", 1).error().message, HasSubstr("does not exist"));
}

TEST_F(S3StoreTest, SaysThatTheServiceCannotBeReached) {
  S3Url url = test_url("WALFS_TEST_S3_ENDPOINT", "p");
  url.endpoint = "http://127.0.0.1:1";
  const Error error = error_of(url, test_credentials());
  EXPECT_EQ(error.code, Errc::kRetry);
  EXPECT_THAT(error.message, HasSubstr("http://127.0.0.1:1 cannot be reached"));
}

TEST_F(S3StoreTest, TrustsOnlyAKnownCertificate) {
  const S3Url url = test_url("WALFS_TEST_S3_TLS", random_prefix());
  const Error error = error_of(url, test_credentials());
  EXPECT_EQ(error.code, Errc::kDenied);
  EXPECT_THAT(error.message, HasSubstr("certificate"));
  S3Store store(url, test_credentials(), StoreOptions(), variable("WALFS_TEST_S3_CA"));
  const Status status = store.put("a", ObjectBody::of("x"), PutMode::kPlain);
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_TRUE(store.remove("a").ok());
}

TEST_F(S3StoreTest, SeesNothingOutsideItsPrefix) {
  const std::string prefix = random_prefix();
  S3Store inside(test_url("WALFS_TEST_S3_ENDPOINT", prefix), test_credentials(), {}, "");
  S3Store neighbour(test_url("WALFS_TEST_S3_ENDPOINT", prefix + "0"), test_credentials(), {}, "");
  ASSERT_TRUE(neighbour.put("a", ObjectBody::of("x"), PutMode::kPlain).ok());
  EXPECT_TRUE(inside.list("", "", 10).value().empty());
  EXPECT_EQ(inside.head("a").error().code, Errc::kNothingThere);
  EXPECT_TRUE(neighbour.remove("a").ok());
}

// What an aborted upload leaves behind would be paid for and never be seen.
TEST_F(S3StoreTest, LeavesNoUploadBehindWhenAPartFails) {
  const S3Url url = test_url("WALFS_TEST_S3_ENDPOINT", random_prefix());
  S3Store store(url, test_credentials(), once(), "");
  const testing::PatternFile file(1000);
  EXPECT_FALSE(store.put("a", ObjectBody::of_file(file.fd(), 0, 17 << 20), PutMode::kPlain).ok());
  S3Client client(url, test_credentials(), once(), "");
  S3Call call;
  call.action = "cannot list uploads";
  call.method = "GET";
  call.query = {{"uploads", ""}, {"prefix", url.prefix}};
  const auto reply = client.call(call);
  ASSERT_TRUE(reply.ok() && reply.value().ok());
  EXPECT_THAT(std::string(as_text(reply.value().response.body)), Not(HasSubstr("<UploadId>")));
}

}  // namespace
}  // namespace walfs
