#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "replicator/stores/credentials.h"

namespace walfs {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Lookup variables(Settings values) {
  return [values = std::move(values)](const std::string& name) {
    const auto at = values.find(name);
    return at == values.end() ? std::string() : at->second;
  };
}

// A credentials file that is removed at the end of the test.
class CredentialsFile {
 public:
  CredentialsFile(const std::string& text, mode_t mode) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(fchmod(fd, mode), 0);
    close(fd);
  }
  ~CredentialsFile() { unlink(path_.c_str()); }
  CredentialsFile(const CredentialsFile&) = delete;
  CredentialsFile& operator=(const CredentialsFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = testing::TempDir() + "credentials-XXXXXX";
};

TEST(Credentials, PreferTheNamesOfLitestream) {
  const auto found = find_credentials({}, variables({{"LITESTREAM_ACCESS_KEY_ID", "li"},
                                                     {"LITESTREAM_SECRET_ACCESS_KEY", "ls"},
                                                     {"AWS_ACCESS_KEY_ID", "ai"},
                                                     {"AWS_SECRET_ACCESS_KEY", "as"},
                                                     {"AWS_SESSION_TOKEN", "at"}}));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value().access_key_id, "li");
  EXPECT_EQ(found.value().secret_access_key, "ls");
  EXPECT_EQ(found.value().session_token, "");
}

TEST(Credentials, TakeTheSessionTokenOfAws) {
  const auto found = find_credentials({}, variables({{"AWS_ACCESS_KEY_ID", "ai"},
                                                     {"AWS_SECRET_ACCESS_KEY", "as"},
                                                     {"AWS_SESSION_TOKEN", "at"}}));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value().session_token, "at");
}

TEST(Credentials, OfTheFileComeBeforeTheEnvironment) {
  const auto found = find_credentials(
      {{"AWS_ACCESS_KEY_ID", "file"}, {"AWS_SECRET_ACCESS_KEY", "fs"}},
      variables({{"LITESTREAM_ACCESS_KEY_ID", "env"}, {"LITESTREAM_SECRET_ACCESS_KEY", "es"}}));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value().access_key_id, "file");
}

TEST(Credentials, SayWhichVariablesToSetWhenThereAreNone) {
  const auto found = find_credentials({}, variables({}));
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, Errc::kDenied);
  EXPECT_THAT(found.error().message, HasSubstr("AWS_ACCESS_KEY_ID"));
  EXPECT_THAT(found.error().message, HasSubstr("LITESTREAM_SECRET_ACCESS_KEY"));
}

TEST(Credentials, NameTheMissingHalfOfAPair) {
  const auto found = find_credentials({}, variables({{"AWS_SECRET_ACCESS_KEY", "hunter2"}}));
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(found.error().message, HasSubstr("AWS_ACCESS_KEY_ID is not"));
  EXPECT_THAT(found.error().message, Not(HasSubstr("hunter2")));
}

TEST(Credentials, CannotSmuggleAHeader) {
  const auto found = find_credentials(
      {}, variables({{"AWS_ACCESS_KEY_ID", "a\r\nx: y"}, {"AWS_SECRET_ACCESS_KEY", "s"}}));
  EXPECT_FALSE(found.ok());
}

TEST(Credentials, RegionComesFromEitherVariable) {
  EXPECT_EQ(find_region({}, variables({{"AWS_DEFAULT_REGION", "b"}})), "b");
  EXPECT_EQ(find_region({}, variables({{"AWS_REGION", "a"}, {"AWS_DEFAULT_REGION", "b"}})), "a");
  EXPECT_EQ(find_region({}, variables({})), "");
}

TEST(CredentialsFile, ReadsNamesAndValues) {
  const auto settings =
      parse_settings("# a comment\n\nA=1\n  export B = \"two words\" \r\nC='x=y'\nD=\nA=3");
  ASSERT_TRUE(settings.ok());
  EXPECT_EQ(settings.value(), (Settings{{"A", "3"}, {"B", "two words"}, {"C", "x=y"}, {"D", ""}}));
}

TEST(CredentialsFile, NamesTheLineThatIsWrongButNotItsText) {
  const auto settings = parse_settings("A=1\nhunter2\n");
  ASSERT_FALSE(settings.ok());
  EXPECT_THAT(settings.error().message, HasSubstr("line 2"));
  EXPECT_THAT(settings.error().message, Not(HasSubstr("hunter2")));
}

TEST(CredentialsFile, IsReadWhenOnlyItsOwnerMay) {
  const CredentialsFile file("AWS_ACCESS_KEY_ID=id\n", 0600);
  const auto settings = read_settings(file.path());
  ASSERT_TRUE(settings.ok()) << settings.error().message;
  EXPECT_EQ(settings.value().at("AWS_ACCESS_KEY_ID"), "id");
}

TEST(CredentialsFile, IsRefusedWhenOthersMayReadIt) {
  const CredentialsFile file("AWS_ACCESS_KEY_ID=id\n", 0604);
  const auto settings = read_settings(file.path());
  ASSERT_FALSE(settings.ok());
  EXPECT_EQ(settings.error().code, Errc::kUsage);
  EXPECT_THAT(settings.error().message, HasSubstr("chmod 600"));
}

TEST(CredentialsFile, IsRefusedWhenItIsNoSmallFile) {
  EXPECT_FALSE(read_settings("/dev/zero").ok());
  EXPECT_FALSE(read_settings("/nonexistent/credentials").ok());
  const CredentialsFile large(std::string(100000, '#'), 0600);
  EXPECT_FALSE(read_settings(large.path()).ok());
}

TEST(CredentialsFile, MayBeLeftOut) {
  const auto settings = read_settings("");
  ASSERT_TRUE(settings.ok());
  EXPECT_TRUE(settings.value().empty());
}

}  // namespace
}  // namespace walfs
