#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "replicator/stores/store.h"

namespace walfs {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kVariables[] = {
    "AWS_ACCESS_KEY_ID",        "AWS_SECRET_ACCESS_KEY",        "AWS_SESSION_TOKEN", "AWS_REGION",
    "LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"};

// Starts with none of the variables set and puts them back at the end.
class OpenStore : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      saved_[name] = value != nullptr ? std::optional<std::string>(value) : std::nullopt;
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
  }
  static void set_keys() {
    setenv("AWS_ACCESS_KEY_ID", "the-id", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "hunter2", 1);
  }

 private:
  std::map<std::string, std::optional<std::string>> saved_;
};

TEST_F(OpenStore, RefusesAMistypedUrl) {
  for (const char* url : {"s3:/bucket", "file://x", "ftp://x", "", "s3://bucket?regoin=x"}) {
    EXPECT_EQ(open_store(url, {}, true).error().code, Errc::kUsage) << url;
  }
}

TEST_F(OpenStore, SaysWhichVariablesHoldTheKeys) {
  const auto opened = open_store("s3://bucket?region=x", {}, true);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, Errc::kDenied);
  EXPECT_THAT(opened.error().message, HasSubstr("set AWS_ACCESS_KEY_ID"));
}

TEST_F(OpenStore, NeedsARegionForAws) {
  set_keys();
  const auto opened = open_store("s3://bucket", {}, true);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, Errc::kUsage);
  EXPECT_THAT(opened.error().message, HasSubstr("region"));
  setenv("AWS_REGION", "eu-west-1", 1);
  EXPECT_TRUE(open_store("s3://bucket", {}, true).ok());
}

TEST_F(OpenStore, DescribesAStoreWithoutItsKeys) {
  set_keys();
  const auto opened = open_store("s3://bucket/p?endpoint=http://127.0.0.1:1", {}, false);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(opened.value()->describe(),
            "s3://bucket/p?endpoint=http://127.0.0.1:1&region=us-east-1");
}

TEST_F(OpenStore, ReadsKeysAndRegionFromAFile) {
  std::string path = ::testing::TempDir() + "keys-XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  dprintf(fd, "AWS_ACCESS_KEY_ID=the-id\nAWS_SECRET_ACCESS_KEY=hunter2\nAWS_REGION=here\n");
  close(fd);
  StoreOptions options;
  options.credentials_file = path;
  const auto opened = open_store("s3://bucket", options, true);
  unlink(path.c_str());
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(opened.value()->describe(), "s3://bucket?region=here");
  EXPECT_THAT(opened.value()->describe(), Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace walfs
