#include "fs/mount/pruner.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "fs/mount/kept_descriptors.h"
#include "fs/mount/null_hooks.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/test_records.h"

namespace walfs {
namespace {

using ::testing::UnorderedElementsAreArray;

constexpr uint64_t kRoom = 344;  // For 258 records; more than 193 are too many.

class PrunerTest : public ::testing::Test {
 protected:
  PrunerTest() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    device_.reset(ends[0]);
    kernel_.reset(ends[1]);
    records_.records().set_descriptor_limit(kKeptDescriptorBase + kRoom);
    struct stat root = {};
    stat(scratch_.path().c_str(), &root);
    table_ = std::make_unique<NodeTable>(open_path(""), root, observer_, records_.records());
  }

  void start(uint32_t minor) {
    const fuse_init_in offered = {FUSE_KERNEL_VERSION, minor, 0, 0, 0, {}};
    std::memcpy(records_.state().init.request.data() + sizeof(fuse_in_header), &offered,
                sizeof offered);
    pruner_ =
        std::make_unique<Pruner>(device_.get(), *table_, records_.records(), records_.state().init);
  }
  FileDescriptor open_path(const std::string& name) {
    return FileDescriptor(
        open((scratch_.path() + "/" + name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  }
  // As a lookup that the kernel has heard the answer of.
  NodeId look_up(const std::string& name) {
    FileDescriptor fd = open_path(name);
    struct stat attributes = {};
    fstat(fd.get(), &attributes);
    const NodeId id =
        table_->acquire(std::move(fd), attributes, table_->get(kRootNode).get(), name.c_str())
            ->id();
    std::vector<NodeEffect> effects = {{id, 1, 0, 0}};
    records_.records().settle(records_.state().slots[0], effects, SlotState::kFree);
    return id;
  }
  NodeId make_file(const std::string& name) {
    FileDescriptor(
        open((scratch_.path() + "/" + name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    return look_up(name);
  }
  // What the kernel is asked next; empty if nothing comes.
  std::vector<uint8_t> asked() {
    pollfd waiting = {kernel_.get(), POLLIN, 0};
    if (poll(&waiting, 1, 5000) <= 0) return {};
    std::vector<uint8_t> message(65536);
    const ssize_t size = read(kernel_.get(), message.data(), message.size());
    message.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return message;
  }
  template <typename T>
  static T at(const std::vector<uint8_t>& message, size_t offset) {
    T value = {};
    if (message.size() >= offset + sizeof value)
      std::memcpy(&value, message.data() + offset, sizeof value);
    return value;
  }

  test::ScratchDirectory scratch_;
  NullObserver observer_;
  test::TestRecords records_;
  FileDescriptor device_;
  FileDescriptor kernel_;
  std::unique_ptr<NodeTable> table_;
  std::unique_ptr<Pruner> pruner_;
};

TEST_F(PrunerTest, AsksTheKernelToPruneWhatIsNotOpen) {
  start(45);
  std::vector<NodeId> idle;
  const NodeId opened = make_file("opened");
  std::vector<NodeEffect> effects = {{opened, 0, 1, 0}};
  records_.records().settle(records_.state().slots[0], effects, SlotState::kFree);
  for (int i = 0; i < 193; ++i) idle.push_back(make_file(std::to_string(i)));
  const std::vector<uint8_t> message = asked();
  const auto header = at<fuse_out_header>(message, 0);
  EXPECT_EQ(header.len, message.size());
  EXPECT_EQ(header.unique, 0u);
  EXPECT_EQ(header.error, 9) << "FUSE_NOTIFY_PRUNE";
  const auto count = at<uint32_t>(message, sizeof header);
  std::vector<NodeId> ids;
  for (size_t at_byte = sizeof header + 16; at_byte + 8 <= message.size(); at_byte += 8)
    ids.push_back(at<NodeId>(message, at_byte));
  EXPECT_EQ(ids.size(), count);
  EXPECT_THAT(ids, ::testing::IsSubsetOf(idle));
  EXPECT_GE(ids.size(), 193U - 160U) << "as many as there were too many when it began";
  EXPECT_LE(ids.size(), records_.records().excess());
}

TEST_F(PrunerTest, AsksAnOlderKernelToForgetTheNamesOfFilesOnly) {
  start(44);
  for (int i = 0; i < 100; ++i) {
    std::filesystem::create_directory(scratch_.path() + "/directory" + std::to_string(i));
    look_up("directory" + std::to_string(i));
  }
  std::vector<std::string> files;
  for (int i = 0; i < 94; ++i) {
    files.push_back("file" + std::to_string(i));
    make_file(files.back());
  }
  const std::vector<uint8_t> message = asked();
  const auto header = at<fuse_out_header>(message, 0);
  EXPECT_EQ(header.len, message.size());
  EXPECT_EQ(header.error, FUSE_NOTIFY_INVAL_ENTRY);
  const auto entry = at<fuse_notify_inval_entry_out>(message, sizeof header);
  EXPECT_EQ(entry.parent, kRootNode);
  const size_t begin = sizeof header + sizeof entry;
  ASSERT_EQ(message.size(), begin + entry.namelen + 1);
  const std::string name(reinterpret_cast<const char*>(message.data()) + begin);
  EXPECT_THAT(files, ::testing::Contains(name));
}

TEST_F(PrunerTest, AsksForNothingWhileThereIsRoom) {
  start(45);
  for (int i = 0; i < 190; ++i) make_file(std::to_string(i));
  pollfd waiting = {kernel_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&waiting, 1, 50), 0);
}

TEST_F(PrunerTest, ALookupWaitsUntilTheKernelHasForgottenSomething) {
  start(45);
  std::vector<NodeId> ids;
  for (int i = 0; i < 258; ++i) ids.push_back(make_file(std::to_string(i)));
  std::thread forgetting([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    table_->release(ids.front(), 1);
  });
  EXPECT_NE(make_file("last"), 0u);
  forgetting.join();
}

}  // namespace
}  // namespace walfs
