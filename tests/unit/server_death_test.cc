// A server that dies at each place of each kind of request, and the next one that goes on: the
// kernel, played by the test, gets its answer; what was asked for has happened once; and what the
// kernel holds of each node is known exactly.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "fs/mount/unnamed.h"
#include "tests/support/mortal_server.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {
namespace {

// One kind of request. `node` stands for the file "old"; the check is made after everything.
struct Kind {
  const char* name;
  uint32_t opcode;
  bool at_root;  // Else at the node of "old".
  std::function<FakeBody(uint64_t node)> body;
  std::function<void(const std::string& directory)> check;
  int64_t lookups = 0;  // What it adds to "old", or to what it makes.
  int32_t handles = 0;
};

bool exists(const std::string& path) {
  struct stat attributes;
  return lstat(path.c_str(), &attributes) == 0;
}

std::string content(const std::string& path) {
  std::string text(64, '\0');
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t size = read(fd.get(), text.data(), text.size());
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

template <typename Body>
FakeBody body_of(const Body& body) {
  return FakeBody().add(body);
}

std::vector<Kind> kinds() {
  const auto there = [](const char* name) {
    return [name](const std::string& in) { EXPECT_TRUE(exists(in + "/" + name)); };
  };
  const auto gone = [](const char* name) {
    return [name](const std::string& in) { EXPECT_FALSE(exists(in + "/" + name)); };
  };
  const auto nothing = [](const std::string&) {};
  fuse_create_in create = {};
  create.flags = O_RDWR | O_EXCL;
  create.mode = S_IFREG | 0644;
  fuse_mkdir_in mkdir = {0755, 0};
  fuse_mknod_in mknod = {S_IFREG | 0600, 0, 0, 0};
  fuse_rename2_in exchange = {kRootNode, RENAME_EXCHANGE, 0};
  // As the kernel sends it without FUSE_SETXATTR_EXT.
  const std::array<uint32_t, 2> xattr = {1, XATTR_CREATE};
  fuse_open_in open_in = {O_RDWR, 0};
  fuse_fsync_in fsync_in = {};
  fuse_read_in list = {};
  list.size = 65536;
  fuse_write_in write_in = {};
  write_in.size = 3;
  fuse_setattr_in truncate = {};
  truncate.valid = FATTR_SIZE;
  truncate.size = 2;
  return {
      {"create", FUSE_CREATE, true, [=](uint64_t) { return body_of(create).name("new"); },
       there("new"), 1, 1},
      {"mkdir", FUSE_MKDIR, true, [=](uint64_t) { return body_of(mkdir).name("new"); },
       there("new"), 1},
      {"mknod", FUSE_MKNOD, true, [=](uint64_t) { return body_of(mknod).name("new"); },
       there("new"), 1},
      {"symlink", FUSE_SYMLINK, true, [](uint64_t) { return FakeBody().name("new").name("old"); },
       there("new"), 1},
      {"link", FUSE_LINK, true,
       [](uint64_t node) { return body_of(fuse_link_in{node}).name("new"); }, there("new"), 1},
      {"unlink", FUSE_UNLINK, true, [](uint64_t) { return FakeBody().name("other"); },
       gone("other")},
      {"rmdir", FUSE_RMDIR, true, [](uint64_t) { return FakeBody().name("directory"); },
       gone("directory")},
      {"rename", FUSE_RENAME, true,
       [](uint64_t) { return body_of(fuse_rename_in{kRootNode}).name("other").name("old"); },
       [](const std::string& in) {
         EXPECT_EQ(content(in + "/old"), "other");
         EXPECT_FALSE(exists(in + "/other"));
       }},
      {"exchange", FUSE_RENAME2, true,
       [=](uint64_t) { return body_of(exchange).name("other").name("old"); },
       [](const std::string& in) {
         EXPECT_EQ(content(in + "/old"), "other");
         EXPECT_EQ(content(in + "/other"), "old");
       }},
      {"write", FUSE_WRITE, false, [=](uint64_t) { return body_of(write_in).data("new"); },
       [](const std::string& in) { EXPECT_EQ(content(in + "/old"), "new"); }},
      {"truncate", FUSE_SETATTR, false, [=](uint64_t) { return body_of(truncate); },
       [](const std::string& in) { EXPECT_EQ(content(in + "/old"), "ol"); }},
      {"setxattr", FUSE_SETXATTR, false,
       [=](uint64_t) { return body_of(xattr).name("user.new").data("x"); },
       [](const std::string& in) {
         EXPECT_EQ(getxattr((in + "/old").c_str(), "user.new", nullptr, 0), 1);
       }},
      {"removexattr", FUSE_REMOVEXATTR, false, [](uint64_t) { return FakeBody().name("user.old"); },
       [](const std::string& in) {
         EXPECT_LT(getxattr((in + "/old").c_str(), "user.old", nullptr, 0), 0);
       }},
      {"unnamed", kOpcodeUnnamed, true, [=](uint64_t) { return body_of(create).name(""); }, nothing,
       1, 1},
      {"lookup", FUSE_LOOKUP, true, [](uint64_t) { return FakeBody().name("old"); }, nothing, 1},
      {"open", FUSE_OPEN, false, [=](uint64_t) { return body_of(open_in); }, nothing, 0, 1},
      {"fsync", FUSE_FSYNC, false, [=](uint64_t) { return body_of(fsync_in); }, nothing},
      {"readdirplus", FUSE_READDIRPLUS, true, [=](uint64_t) { return body_of(list); }, nothing, 1},
      {"getattr", FUSE_GETATTR, false, [](uint64_t) { return body_of(fuse_getattr_in{}); },
       nothing},
  };
}

// A directory with what the requests need.
void fill(const std::string& path) {
  for (const char* name : {"old", "other"}) {
    const FileDescriptor fd(
        open((path + "/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_GT(write(fd.get(), name, std::strlen(name)), 0);
  }
  ASSERT_EQ(setxattr((path + "/old").c_str(), "user.old", "x", 1, 0), 0);
  ASSERT_EQ(mkdir((path + "/directory").c_str(), 0755), 0);
}

class ServerDeath : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!can_replace_server()) GTEST_FAIL() << "libfuse before 3.14 cannot replace a server";
  }
};

TEST_P(ServerDeath, IsNotNoticedByTheKernelWhateverWasAskedFor) {
  for (const Kind& kind : kinds()) {
    // An FSYNC is not in its slot any more when it is answered.
    if (kind.opcode == FUSE_FSYNC && GetParam() == "kept") continue;
    SCOPED_TRACE(kind.name);
    ScratchDirectory scratch;
    const std::string directory = scratch.make("backing");
    fill(directory);
    MortalServer server(directory);
    const uint64_t old = server.lookup("old");
    ASSERT_NE(old, 0u);
    server.end();
    server.begin(GetParam());
    server.send_request(kind.opcode, kind.at_root ? kRootNode : old, kind.body(old));
    ASSERT_TRUE(server.reap());
    server.begin("");
    const auto reply = server.answer();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    // One more request: what was left is done before it.
    EXPECT_EQ(server.lookup("missing"), 0u);
    kind.check(directory);
    const bool makes =
        kind.at_root && kind.handles + kind.lookups > 0 && kind.opcode != FUSE_READDIRPLUS;
    const uint64_t counted = makes ? reply->as<fuse_entry_out>().nodeid : old;
    const auto counts = server.counts(counted);
    ASSERT_TRUE(counts);
    EXPECT_EQ(counts->lookups, static_cast<uint64_t>(kind.lookups + (counted == old ? 1 : 0)));
    EXPECT_EQ(counts->handles, static_cast<uint32_t>(kind.handles));
    EXPECT_EQ(counts->writers, static_cast<uint32_t>(kind.handles));
  }
}

// Each record has a descriptor's number, and these are not without end.
TEST(ServerDeathTest, RecordsOfForgottenNodesAreUsedAgain) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  fill(directory);
  MortalServer server(directory);
  for (int i = 0; i < 20; ++i) {
    const uint64_t node = server.lookup("old");
    EXPECT_EQ(NodeRecords::index_of(node), 0u);
    server.send_request(FUSE_FORGET, node, FakeBody().add(fuse_forget_in{1}));
    EXPECT_EQ(server.lookup("missing"), 0u);
    if (i % 5 != 4) continue;
    server.end();
    server.begin("");
  }
}

TEST(ServerDeathTest, ForgetsEachNodeOnce) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  fill(directory);
  MortalServer server(directory);
  const uint64_t old = server.lookup("old");
  EXPECT_EQ(server.lookup("old"), old);
  const uint64_t other = server.lookup("other");
  server.end();
  server.begin("read");
  server.send_request(FUSE_BATCH_FORGET, 0,
                      FakeBody()
                          .add(fuse_batch_forget_in{2, 0})
                          .add(fuse_forget_one{old, 1})
                          .add(fuse_forget_one{other, 1}));
  ASSERT_TRUE(server.reap());
  server.begin("");
  EXPECT_EQ(server.lookup("missing"), 0u);
  ASSERT_TRUE(server.counts(old));
  EXPECT_EQ(server.counts(old)->lookups, 1u);
  EXPECT_FALSE(server.counts(other));
  EXPECT_EQ(server.nodes_known(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Places, ServerDeath,
                         testing::Values("read", "executed", "kept", "replied"),
                         [](const auto& each) { return each.param; });

TEST(ServerDeathTest, AFileWithoutANameIsStillThere) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  MortalServer server(directory);
  fuse_create_in create = {};
  create.flags = O_RDWR;
  create.mode = S_IFREG | 0644;
  const FakeReply made = server.call(FUSE_CREATE, kRootNode, FakeBody().add(create).name("file"));
  const uint64_t node = made.as<fuse_entry_out>().nodeid;
  fuse_write_in write_in = {};
  write_in.size = 5;
  ASSERT_EQ(server.call(FUSE_WRITE, node, FakeBody().add(write_in).data("hello")).error, 0);
  ASSERT_EQ(server.call(FUSE_UNLINK, kRootNode, FakeBody().name("file")).error, 0);
  server.end();
  server.begin("");
  fuse_read_in read_in = {};
  read_in.size = 100;
  EXPECT_EQ(server.call(FUSE_READ, node, FakeBody().add(read_in)).text(), "hello");
}

// The kernel sends INIT once, and waits for its answer before it sends anything else.
TEST(ServerDeathTest, TheFirstServerCanDieOfTheFirstRequest) {
  for (const char* place : {"read", "kept", "replied"}) {
    SCOPED_TRACE(place);
    ScratchDirectory scratch;
    const std::string directory = scratch.make("backing");
    std::ofstream(directory + "/old") << "text";
    MortalServer server(directory, place);
    EXPECT_NE(server.lookup("old"), 0U);
  }
}

// The second net below the journal.
TEST(ServerDeathTest, AKernelThatCanSendAgainIsAskedTo) {
  for (const bool can : {true, false}) {
    ScratchDirectory scratch;
    MortalServer server(scratch.make("backing"), "", can);
    EXPECT_FALSE(server.asks_for_the_rest(200)) << "nobody has died";
    server.end();
    server.begin("");
    EXPECT_EQ(server.asks_for_the_rest(can ? kAnyTime : 200), can);
    EXPECT_EQ(kernel_can_resend(server.state().init), can);
  }
}

// What is being executed would be sent again with another number, and be executed twice.
TEST(ServerDeathTest, NothingIsSentAgainOnceNewRequestsAreServed) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  std::ofstream(directory + "/old") << "text";
  MortalServer server(directory, "", true);
  const uint64_t node = server.lookup("old");
  server.call(FUSE_OPEN, node, FakeBody().add(fuse_open_in{O_RDWR, 0}));
  server.end();
  server.begin("read");
  ASSERT_TRUE(server.asks_for_the_rest(kAnyTime));
  fuse_write_in write = {};
  write.size = 4;
  server.send_request(FUSE_WRITE, node, FakeBody().add(write).data("TEXT"));
  ASSERT_TRUE(server.reap());
  // Longer than the next server holds up new requests for it.
  server.write_ms = 2500;
  server.begin("");
  EXPECT_FALSE(server.asks_for_the_rest(3000));
  EXPECT_EQ(content(directory + "/old"), "TEXT");
  EXPECT_NE(server.lookup("old"), 0U);
}

// Else it would be in the directory, and nobody would know of it.
TEST(ServerDeathTest, WhatNoDescriptorIsLeftForIsNotMade) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  std::ofstream(directory + "/old") << "text";
  MortalServer server(directory);
  const uint64_t old = server.lookup("old");
  server.end();
  server.descriptors_max = 60;
  server.begin("");
  fuse_create_in create = {};
  create.flags = O_RDWR | O_EXCL;
  create.mode = S_IFREG | 0644;
  size_t failed = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "new" + std::to_string(i);
    FakeReply reply;
    switch (i % 5) {
      case 0:
        reply =
            server.call(FUSE_MKDIR, kRootNode, FakeBody().add(fuse_mkdir_in{0755, 0}).name(name));
        break;
      case 1:
        reply = server.call(FUSE_CREATE, kRootNode, FakeBody().add(create).name(name));
        break;
      case 2:
        reply = server.call(FUSE_SYMLINK, kRootNode, FakeBody().name(name).name("old"));
        break;
      case 3:
        reply = server.call(FUSE_LINK, kRootNode, FakeBody().add(fuse_link_in{old}).name(name));
        break;
      default:
        reply = server.call(FUSE_MKNOD, kRootNode,
                            FakeBody().add(fuse_mknod_in{S_IFREG | 0600, 0, 0, 0}).name(name));
    }
    EXPECT_TRUE(reply.error == 0 || reply.error == EMFILE) << reply.error;
    EXPECT_EQ(exists(directory + "/" + name), reply.error == 0) << i;
    failed += reply.error != 0 ? 1 : 0;
  }
  EXPECT_GT(failed, 20U);
  EXPECT_LT(failed, 100U);
}

TEST(ServerDeathTest, ARequestThatEveryServerDiesOfFails) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  MortalServer server(directory);
  server.end();
  server.begin("executed");
  server.send_request(FUSE_MKDIR, kRootNode, FakeBody().add(fuse_mkdir_in{0755, 0}).name("new"));
  ASSERT_TRUE(server.reap());
  for (int i = 0; i < 4; ++i) {
    server.begin("executed");
    ASSERT_TRUE(server.reap());
  }
  server.begin("");
  const auto reply = server.answer();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->error, EIO);
}

TEST(ServerDeathTest, ARequestThatEveryServerDiesOfTakesNoOtherAlong) {
  ScratchDirectory scratch;
  const std::string directory = scratch.make("backing");
  std::ofstream(directory + "/old") << "text";
  MortalServer server(directory);
  const uint64_t node = server.lookup("old");
  server.call(FUSE_OPEN, node, FakeBody().add(fuse_open_in{O_RDWR, 0}));
  server.end();
  server.write_ms = 300;
  server.deadly_offset = 4096;
  server.begin("");
  fuse_write_in write = {};
  write.size = 4;
  server.send_request(FUSE_WRITE, node, FakeBody().add(write).data("TEXT"));
  usleep(100 * 1000);
  write.offset = server.deadly_offset;
  server.send_request(FUSE_WRITE, node, FakeBody().add(write).data("kill"));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(server.reap()) << i;
    server.begin("");
  }
  const auto reply = server.answer();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->error, EIO);
  EXPECT_NE(server.lookup("old"), 0U);
  EXPECT_EQ(content(directory + "/old"), "TEXT");
}

}  // namespace
}  // namespace walfs::test
