#include "replicator/stores/file_store.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/store_conformance.h"

namespace walfs {
namespace {

using testing::StoreConformance;
namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A directory that is removed at the end of the test.
class TempDirectory {
 public:
  TempDirectory() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~TempDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = ::testing::TempDir() + "file-store-XXXXXX";
};

class FileStoreHolder final : public testing::StoreHolder {
 public:
  FileStoreHolder() {
    auto opened = open_store("file://" + directory_.path() + "/replica", {}, true);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    if (opened.ok()) store_ = std::move(opened).value();
  }
  Store& store() override { return *store_; }

 private:
  TempDirectory directory_;
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(FileStore, StoreConformance, ::testing::Values(testing::StoreFactory{[] {
                           return std::make_unique<FileStoreHolder>();
                         }}),
                         [](const auto&) { return "Directory"; });

class FileStoreTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  std::unique_ptr<Store> open(bool create = true) {
    auto opened = open_store("file://" + path("replica"), {}, create);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    return opened.ok() ? std::move(opened).value() : nullptr;
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }

 private:
  TempDirectory directory_;
};

TEST_F(FileStoreTest, CreatesItsDirectoryOnlyWhenAsked) {
  const std::string url = "file://" + path("a/b/c");
  EXPECT_EQ(open_store(url, {}, false).error().code, Errc::kNothingThere);
  EXPECT_FALSE(fs::exists(path("a")));
  ASSERT_TRUE(open_store(url, {}, true).ok());
  EXPECT_TRUE(open_store(url, {}, false).ok());
}

TEST_F(FileStoreTest, RefusesAFileAsItsDirectory) {
  write("replica", "x");
  EXPECT_EQ(open_store("file://" + path("replica"), {}, true).error().code, Errc::kUsage);
}

TEST_F(FileStoreTest, IsClosedToOtherUsers) {
  ASSERT_TRUE(open()->put("a/b", ObjectBody::of("x"), PutMode::kPlain).ok());
  for (const char* name : {"replica", "replica/a", "replica/a/b"}) {
    struct stat attributes {};
    ASSERT_EQ(stat(path(name).c_str(), &attributes), 0);
    EXPECT_EQ(attributes.st_mode & 077, 0U) << name;
  }
}

TEST_F(FileStoreTest, KeepsItsObjectsWhenOpenedAgain) {
  ASSERT_TRUE(open()->put("a/b", ObjectBody::of("x"), PutMode::kPlain).ok());
  EXPECT_EQ(open(false)->get("a/b", 10).value(), Bytes{'x'});
}

TEST_F(FileStoreTest, FollowsNoSymlinkBeneathItsRoot) {
  const auto store = open();
  fs::create_directory(path("outside"));
  write("outside/secret", "secret");
  fs::create_symlink(path("outside"), path("replica/directory"));
  fs::create_symlink(path("outside/secret"), path("replica/file"));
  for (const char* key : {"file", "directory/secret"}) {
    EXPECT_EQ(store->get(key, 100).error().code, Errc::kDamaged) << key;
    EXPECT_FALSE(store->head(key).ok()) << key;
  }
  EXPECT_FALSE(store->put("directory/new", ObjectBody::of("x"), PutMode::kPlain).ok());
  EXPECT_FALSE(fs::exists(path("outside/new")));
  EXPECT_FALSE(store->remove("directory/secret").ok());
  EXPECT_TRUE(fs::exists(path("outside/secret")));
  EXPECT_TRUE(store->list("", "", 10).value().empty());
  EXPECT_FALSE(store->list("directory/", "", 10).ok());
}

TEST_F(FileStoreTest, ReplacesASymlinkAndNotItsTarget) {
  const auto store = open();
  write("outside", "secret");
  fs::create_symlink(path("outside"), path("replica/file"));
  ASSERT_TRUE(store->put("file", ObjectBody::of("new"), PutMode::kPlain).ok());
  EXPECT_FALSE(fs::is_symlink(path("replica/file")));
  EXPECT_EQ(fs::file_size(path("outside")), 6U);
}

TEST_F(FileStoreTest, CountsADanglingSymlinkAsSomethingThere) {
  const auto store = open();
  fs::create_symlink(path("nowhere"), path("replica/file"));
  EXPECT_EQ(store->put("file", ObjectBody::of("x"), PutMode::kIfAbsent).error().code,
            Errc::kConflict);
}

TEST_F(FileStoreTest, LeavesNoTemporaryFileBehind) {
  const auto store = open();
  ASSERT_TRUE(store->put("a", ObjectBody::of("x"), PutMode::kIfAbsent).ok());
  EXPECT_FALSE(store->put("a", ObjectBody::of("x"), PutMode::kIfAbsent).ok());
  EXPECT_FALSE(store->put("b", ObjectBody::of_file(INT_MAX, 0, 5), PutMode::kPlain).ok());
  fs::create_directory(path("replica/d"));
  EXPECT_FALSE(store->put("d", ObjectBody::of("x"), PutMode::kPlain).ok());
  EXPECT_TRUE(fs::is_empty(path("replica/.tmp")));
}

TEST_F(FileStoreTest, NeverListsWhatIsNoObject) {
  const auto store = open();
  ASSERT_TRUE(store->put("a", ObjectBody::of("x"), PutMode::kPlain).ok());
  write("replica/.tmp/left-over", "x");
  write("replica/.hidden", "x");
  write("replica/with space", "x");
  ASSERT_EQ(mkfifo(path("replica/pipe").c_str(), 0600), 0);
  const auto found = store->list("", "", 10);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found.value().size(), 1U);
  EXPECT_EQ(found.value()[0].key, "a");
}

TEST_F(FileStoreTest, IsNotHeldUpByAPipe) {
  const auto store = open();
  ASSERT_EQ(mkfifo(path("replica/pipe").c_str(), 0600), 0);
  EXPECT_EQ(store->get("pipe", 10).error().code, Errc::kNothingThere);
}

TEST_F(FileStoreTest, SweepsOnlyOldLeftovers) {
  {
    const auto made = open();
    ASSERT_TRUE(made->put("a", ObjectBody::of("x"), PutMode::kPlain).ok());
  }
  write("replica/.tmp/old", "x");
  write("replica/.tmp/new", "x");
  const struct timeval long_ago[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(utimes(path("replica/.tmp/old").c_str(), long_ago), 0);
  open(false);
  EXPECT_TRUE(fs::exists(path("replica/.tmp/old")));
  open(true);
  EXPECT_FALSE(fs::exists(path("replica/.tmp/old")));
  EXPECT_TRUE(fs::exists(path("replica/.tmp/new")));
}

TEST_F(FileStoreTest, NamesTheFileInItsErrors) {
  const auto store = open();
  EXPECT_THAT(store->get("a/b", 10).error().message, HasSubstr(path("replica/a/b")));
  EXPECT_EQ(store->describe(), "file://" + path("replica"));
}

}  // namespace
}  // namespace walfs
