#include "fs/cli/size.h"

#include <gtest/gtest.h>

namespace walfs {
namespace {

TEST(Sizes, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(parse_size("1GiB"), 1 << 30);
  EXPECT_EQ(parse_size("512 MiB"), 512 << 20);
  EXPECT_EQ(parse_size("1.5KiB"), 1536);
  EXPECT_EQ(parse_size("2GB"), 2'000'000'000);
  EXPECT_EQ(parse_size("1TiB"), int64_t{1} << 40);
  EXPECT_EQ(parse_size("65536"), 65536);
  EXPECT_EQ(parse_size("0"), 0);
}

TEST(Sizes, ThatAreNoneAreRefused) {
  for (const char* text : {"", "GiB", "-1MiB", "1G", "1GiBs", "1 2", "1e30TiB", "nan"})
    EXPECT_EQ(parse_size(text), -1) << text;
}

TEST(Sizes, AreToldAsPeopleWriteThem) {
  EXPECT_EQ(describe_size(1), "1 byte");
  EXPECT_EQ(describe_size(10239), "10239 bytes");
  EXPECT_EQ(describe_size(12345), "12 KiB");
  EXPECT_EQ(describe_size(uint64_t{1} << 30), "1024 MiB");
  EXPECT_EQ(count_of(0, "point"), "0 points");
  EXPECT_EQ(count_of(1, "point"), "1 point");
}

}  // namespace
}  // namespace walfs
