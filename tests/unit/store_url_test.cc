#include "replicator/stores/store_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace walfs {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

S3Url s3(const std::string& url) {
  auto parsed = parse_store_url(url);
  EXPECT_TRUE(parsed.ok()) << url << ": " << (parsed.ok() ? "" : parsed.error().message);
  return parsed.ok() ? std::get<S3Url>(parsed.value()) : S3Url();
}

TEST(StoreUrl, TakesAFilePathLiterally) {
  const auto parsed = parse_store_url("file:///var/lib/a b%20c/");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(std::get<FileUrl>(parsed.value()).path, "/var/lib/a b%20c");
}

TEST(StoreUrl, ReadsAllPartsOfAnS3Url) {
  const S3Url url = s3("s3://my-bucket/a/b?endpoint=http://127.0.0.1:9000&region=eu-west-1");
  EXPECT_EQ(url.bucket, "my-bucket");
  EXPECT_EQ(url.prefix, "a/b");
  EXPECT_EQ(url.endpoint, "http://127.0.0.1:9000");
  EXPECT_EQ(url.region, "eu-west-1");
}

TEST(StoreUrl, AllowsAnEmptyPrefix) {
  for (const char* text :
       {"s3://bucket", "s3://bucket/", "s3://bucket?region=x", "s3://bucket//"}) {
    EXPECT_EQ(s3(text).prefix, "") << text;
    EXPECT_EQ(s3(text).bucket, "bucket") << text;
  }
}

TEST(StoreUrl, DecodesTheValuesOfOptions) {
  EXPECT_EQ(s3("s3://b?endpoint=https%3A%2F%2Fs3.example%3A8443%2Fbase%2F").endpoint,
            "https://s3.example:8443/base");
}

TEST(StoreUrl, UsesThePathStyleForOwnEndpointsAndDottedBuckets) {
  EXPECT_FALSE(s3("s3://bucket?region=x").path_style);
  EXPECT_TRUE(s3("s3://a.bucket?region=x").path_style);
  EXPECT_TRUE(s3("s3://bucket?endpoint=http://h").path_style);
  EXPECT_FALSE(s3("s3://bucket?endpoint=http://h&style=virtual").path_style);
  EXPECT_TRUE(s3("s3://bucket?style=path").path_style);
}

TEST(StoreUrl, ExplainsEveryMistakeWithARightForm) {
  for (const char* text : {"",
                           "x",
                           "/var/lib",
                           "s3:/bucket/x",
                           "s3:bucket",
                           "s3://",
                           "s3:///prefix",
                           "S3://bucket",
                           "file:/x",
                           "file://relative/x",
                           "file://",
                           "file:///",
                           "file:///x?y=z",
                           "gs://bucket",
                           "http://host/bucket",
                           "s3://bucket?regoin=x",
                           "s3://bucket?region",
                           "s3://bucket?region=",
                           "s3://bucket?style=both",
                           "s3://bucket?endpoint=host:9000",
                           "s3://bucket?endpoint=http://",
                           "s3://bucket?endpoint=ftp://h",
                           "s3://bucket?region=%4",
                           "s3://buck et/x",
                           "s3://bucket/a//b",
                           "s3://bucket/../x",
                           "s3://bucket/a?endpoint=http://h/?x=y"}) {
    const auto parsed = parse_store_url(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code, Errc::kUsage) << text;
    EXPECT_THAT(parsed.error().message, HasSubstr("write it like ")) << text;
  }
}

TEST(StoreUrl, NeverRepeatsCredentialsInAMessage) {
  for (const char* text : {"s3://AKIA:hunter2@bucket/x", "s3://b?endpoint=https://me:hunter2@host",
                           "https://me:hunter2@host/bucket", "s3:/AKIA:hunter2@bucket"}) {
    const auto parsed = parse_store_url(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(parsed.error().message, Not(HasSubstr("hunter2"))) << text;
  }
}

TEST(StoreUrl, NamesTheHostOfAwsByRegion) {
  const S3Target target = s3_target(s3("s3://bucket/p?region=eu-west-1"));
  EXPECT_EQ(target.scheme, "https");
  EXPECT_EQ(target.host, "bucket.s3.eu-west-1.amazonaws.com");
  EXPECT_EQ(target.base_path, "");
}

TEST(StoreUrl, KeepsPortAndPathOfAnEndpoint) {
  const S3Target target = s3_target(s3("s3://bucket?endpoint=http://h:9000/base"));
  EXPECT_EQ(target.scheme, "http");
  EXPECT_EQ(target.host, "h:9000");
  EXPECT_EQ(target.base_path, "/base/bucket");
}

// The client leaves the scheme's own port out of the Host header, and Host is signed.
TEST(StoreUrl, LeavesOutTheSchemesOwnPort) {
  EXPECT_EQ(s3_target(s3("s3://b?endpoint=https://h:443")).host, "h");
  EXPECT_EQ(s3_target(s3("s3://b?endpoint=http://h:80")).host, "h");
  EXPECT_EQ(s3_target(s3("s3://b?endpoint=http://h:443")).host, "h:443");
}

TEST(StoreUrl, ReadsItsOwnText) {
  for (const char* text :
       {"s3://b", "s3://b/p/q?region=eu-west-1",
        "s3://b?endpoint=http://h:1&region=r&style=virtual", "s3://b.c", "s3://b?style=path"}) {
    EXPECT_EQ(to_string(s3(text)), text);
  }
}

}  // namespace
}  // namespace walfs
