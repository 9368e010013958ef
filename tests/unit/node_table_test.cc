#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "fs/mount/nodes.h"
#include "fs/mount/null_hooks.h"
#include "tests/support/test_records.h"

namespace walfs {
namespace {

// Counts how often each inode is attached at the same time: never more than once.
class CountingObserver : public NullObserver {
 public:
  TrackedFile* attach(int, const struct stat&, TrackedFile*, const char*) override {
    attached += 1;
    return reinterpret_cast<TrackedFile*>(&token_);
  }
  void detach(TrackedFile* file) override {
    if (file != nullptr) detached += 1;
  }
  std::atomic<int> attached = 0;
  std::atomic<int> detached = 0;

 private:
  int token_ = 0;
};

class NodeTableTest : public testing::Test {
 protected:
  NodeTableTest() {
    path_ = testing::TempDir() + "/walfs-nodes-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
    table_ = std::make_unique<NodeTable>(open_path(""), stat_of(""), observer_, records_.records());
  }
  ~NodeTableTest() override {
    table_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void make(const std::string& name) {
    FileDescriptor fd(open((path_ + "/" + name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd.valid());
  }
  FileDescriptor open_path(const std::string& name) {
    return FileDescriptor(open((path_ + "/" + name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  }
  struct stat stat_of(const std::string& name) {
    struct stat attributes = {};
    lstat((path_ + "/" + name).c_str(), &attributes);
    return attributes;
  }
  NodePtr acquire(const std::string& name) {
    return table_->acquire(open_path(name), stat_of(name), table_->get(kRootNode).get(),
                           name.c_str());
  }

  std::string path_;
  CountingObserver observer_;
  test::TestRecords records_;
  std::unique_ptr<NodeTable> table_;
};

TEST_F(NodeTableTest, GivesTwoNamesOfOneInodeTheSameNode) {
  make("a");
  ASSERT_EQ(link((path_ + "/a").c_str(), (path_ + "/b").c_str()), 0);
  EXPECT_EQ(acquire("a")->id(), acquire("b")->id());
  EXPECT_EQ(observer_.attached, 2) << "the root and the one inode";
}

TEST_F(NodeTableTest, KeepsANodeUntilTheLastLookupIsForgotten) {
  make("a");
  NodeId id = acquire("a")->id();
  acquire("a");
  table_->release(id, 1);
  EXPECT_NE(table_->get(id), nullptr);
  EXPECT_EQ(observer_.detached, 0);
  table_->release(id, 1);
  EXPECT_EQ(table_->get(id), nullptr);
  EXPECT_EQ(observer_.detached, 1);
}

TEST_F(NodeTableTest, NeverUsesAnIdAgain) {
  make("a");
  NodeId first = acquire("a")->id();
  table_->release(first, 1);
  EXPECT_NE(acquire("a")->id(), first);
}

TEST_F(NodeTableTest, NeverForgetsTheRoot) {
  table_->release(kRootNode, 1000);
  EXPECT_NE(table_->get(kRootNode), nullptr);
  EXPECT_EQ(observer_.detached, 0);
}

TEST_F(NodeTableTest, IgnoresAForgetOfAnUnknownIdAndOneThatIsTooLarge) {
  make("a");
  NodeId id = acquire("a")->id();
  table_->release(id + 100, 1);
  table_->release(id, ~uint64_t{0});
  EXPECT_EQ(table_->get(id), nullptr);
  EXPECT_EQ(table_->size(), 1u);
}

TEST_F(NodeTableTest, FindsAKnownInodeAndNoOther) {
  make("a");
  make("b");
  NodeId id = acquire("a")->id();
  struct stat known = stat_of("a");
  struct stat other = stat_of("b");
  ASSERT_NE(table_->find(known.st_dev, known.st_ino), nullptr);
  EXPECT_EQ(table_->find(known.st_dev, known.st_ino)->id(), id);
  EXPECT_EQ(table_->find(other.st_dev, other.st_ino), nullptr);
}

TEST_F(NodeTableTest, DescribesANodeByItsLastKnownPlace) {
  make("a");
  NodePtr node = acquire("a");
  EXPECT_EQ(table_->describe(node->id()), "/a");
  node->set_place(kRootNode, "renamed");
  EXPECT_EQ(table_->describe(node->id()), "/renamed");
  EXPECT_EQ(table_->describe(kRootNode), "/");
}

TEST_F(NodeTableTest, DetachesWhatIsLeftAtTheEnd) {
  make("a");
  acquire("a");
  table_.reset();
  EXPECT_EQ(observer_.detached, 2);
}

TEST_F(NodeTableTest, SharesOneDescriptorBetweenHandlesAndClosesItWithTheLast) {
  make("a");
  NodePtr node = acquire("a");
  EXPECT_EQ(node->data(), nullptr);
  ASSERT_EQ(node->open_handle(false), 0);
  auto data = node->data();
  ASSERT_NE(data, nullptr);
  EXPECT_TRUE(data->writable) << "the page cache reads and writes through it";
  ASSERT_EQ(node->open_handle(true), 0);
  EXPECT_EQ(node->data(), data);
  node->close_handle();
  EXPECT_EQ(node->data(), data);
  node->close_handle();
  EXPECT_EQ(node->data(), nullptr);
  EXPECT_EQ(fcntl(data->fd.get(), F_GETFD), FD_CLOEXEC) << "open as long as somebody holds it";
}

TEST_F(NodeTableTest, SurvivesLookupsAndForgetsOfOneInodeFromManyThreads) {
  make("a");
  std::vector<std::thread> threads;
  std::atomic<int> lost = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 2000; ++round) {
        NodePtr node = acquire("a");
        // Between lookup and forget the node is known, and attached.
        if (table_->get(node->id()) == nullptr || node->tracked() == nullptr) lost += 1;
        table_->release(node->id(), 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(table_->size(), 1u);
  EXPECT_EQ(observer_.attached - observer_.detached, 1) << "only the root is left";
}

}  // namespace
}  // namespace walfs
