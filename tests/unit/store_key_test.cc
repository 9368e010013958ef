#include <gtest/gtest.h>

#include "replicator/stores/object_key.h"

namespace walfs {
namespace {

TEST(ObjectKey, AcceptsPrintablePartsJoinedBySlashes) {
  for (const char* key :
       {"volume.json", "log/0/0001-0002.seg", "a", "a+b=c~d!'()*&$@:,;#%?[]^`{|}\"<>"}) {
    EXPECT_TRUE(is_valid_key(key)) << key;
    EXPECT_TRUE(check_key(key).ok()) << key;
  }
}

TEST(ObjectKey, RefusesWhatIsNoPlainPath) {
  for (const std::string& key :
       {std::string(), std::string("/a"), std::string("a/"), std::string("a//b"), std::string("."),
        std::string(".."), std::string("a/../b"), std::string("a/./b"), std::string(".tmp/x"),
        std::string("a b"), std::string("a\\b"), std::string("a\nb"), std::string("\xc3\xa4"),
        std::string("a\0b", 3), std::string(kMaxKeySize + 1, 'x')}) {
    EXPECT_FALSE(is_valid_key(key)) << key;
    EXPECT_EQ(check_key(key).error().code, Errc::kUsage) << key;
  }
}

TEST(ObjectKey, BoundsTheNumberOfParts) {
  std::string key = "x";
  for (size_t i = 1; i < kMaxKeyParts; ++i) key += "/x";
  EXPECT_TRUE(is_valid_key(key));
  EXPECT_FALSE(is_valid_key(key + "/x"));
}

TEST(ObjectKey, APrefixIsTheBeginningOfAKey) {
  for (const char* prefix : {"", "log", "log/", "log/0/00"}) {
    EXPECT_TRUE(check_key_prefix(prefix).ok()) << prefix;
  }
  for (const char* prefix : {"/", "log//", "../", "lo g"}) {
    EXPECT_FALSE(check_key_prefix(prefix).ok()) << prefix;
  }
}

}  // namespace
}  // namespace walfs
