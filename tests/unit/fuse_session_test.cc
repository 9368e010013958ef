// The real callbacks, driven by raw requests without a mount.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fs/mount/null_hooks.h"
#include "fs/mount/unnamed.h"
#include "tests/support/fake_fuse.h"

namespace walfs::test {
namespace {

using testing::ElementsAre;

// Writes down every call by name; hands out the root and every file as one token.
class RecordingObserver : public NullObserver {
 public:
  TrackedFile* attach(int, const struct stat&, TrackedFile*, const char* name) override {
    return note("attach " + std::string(name != nullptr ? name : "(no name)")),
           reinterpret_cast<TrackedFile*>(this);
  }
  void detach(TrackedFile*) override { note("detach"); }
  void opened_writable(TrackedFile*) override { note("opened_writable"); }
  void closed_writable(TrackedFile*) override { note("closed_writable"); }
  void before_write(TrackedFile*, uint64_t offset, ByteView data) override {
    note("before_write " + std::to_string(offset) + " " + std::string(as_text(data)));
  }
  void wrote(TrackedFile*, uint64_t offset, uint64_t size) override {
    note("wrote " + std::to_string(offset) + " " + std::to_string(size));
  }
  void before_truncate(TrackedFile*, uint64_t size) override {
    note("before_truncate " + std::to_string(size));
  }
  void truncated(TrackedFile*, uint64_t size) override {
    note("truncated " + std::to_string(size));
  }
  void before_fsync(TrackedFile*) override { note("before_fsync"); }
  void synced(TrackedFile*) override { note("synced"); }
  void created(TrackedFile*, const char* name, TrackedFile*) override {
    note("created " + std::string(name));
  }
  void linked(TrackedFile*, const char* name, TrackedFile*) override {
    note("linked " + std::string(name));
  }
  void before_unlink(TrackedFile*, const char* name, TrackedFile* file) override {
    note("before_unlink " + std::string(name) + (file != nullptr ? "" : " unknown"));
  }
  void unlinked(TrackedFile*, const char* name, TrackedFile*) override {
    note("unlinked " + std::string(name));
  }
  void before_rename(TrackedFile*, const char* name, TrackedFile*, const char* new_name,
                     TrackedFile*, TrackedFile* replaced, unsigned) override {
    note("before_rename " + std::string(name) + " " + new_name +
         (replaced != nullptr ? " over" : ""));
  }
  void renamed(TrackedFile*, const char* name, TrackedFile*, const char* new_name, TrackedFile*,
               TrackedFile*, unsigned) override {
    note("renamed " + std::string(name) + " " + new_name);
  }
  void attributes_changed(TrackedFile*) override { note("attributes_changed"); }

  std::vector<std::string> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(calls_, {});
  }

 private:
  void note(std::string call) {
    std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
  }
  std::mutex mutex_;
  std::vector<std::string> calls_;
};

class FuseSession : public testing::Test {
 protected:
  FuseSession() {
    path_ = testing::TempDir() + "/walfs-fuse-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
    backing_.reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    fuse_ = std::make_unique<FakeFuse>(backing_.get(), observer_);
    fuse_->set_caller(getuid(), getgid());
  }
  ~FuseSession() override {
    fuse_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  FakeReply lookup(const std::string& name, uint64_t parent = FUSE_ROOT_ID) {
    return fuse_->call(FUSE_LOOKUP, parent, FakeBody().name(name));
  }
  uint64_t node_of(const std::string& name) { return lookup(name).as<fuse_entry_out>().nodeid; }
  FakeReply create(const std::string& name, uint32_t flags = O_RDWR, uint32_t mode = 0644,
                   uint32_t umask = 022) {
    fuse_create_in in = {};
    in.flags = flags | O_CREAT;
    in.mode = S_IFREG | mode;
    in.umask = umask;
    return fuse_->call(FUSE_CREATE, FUSE_ROOT_ID, FakeBody().add(in).name(name));
  }
  FakeReply write(uint64_t node, uint64_t offset, const std::string& text, uint32_t flags = 0) {
    fuse_write_in in = {};
    in.offset = offset;
    in.size = static_cast<uint32_t>(text.size());
    in.write_flags = flags;
    return fuse_->call(FUSE_WRITE, node, FakeBody().add(in).data(text));
  }
  FakeReply read(uint64_t node, uint64_t offset, uint32_t size) {
    fuse_read_in in = {};
    in.offset = offset;
    in.size = size;
    return fuse_->call(FUSE_READ, node, FakeBody().add(in));
  }
  FakeReply open_node(uint64_t node, uint32_t flags) {
    fuse_open_in in = {};
    in.flags = flags;
    return fuse_->call(FUSE_OPEN, node, FakeBody().add(in));
  }
  FakeReply release(uint64_t node, uint32_t flags = O_RDWR) {
    fuse_release_in in = {};
    in.flags = flags;
    return fuse_->call(FUSE_RELEASE, node, FakeBody().add(in));
  }
  FakeReply set_attributes(uint64_t node, fuse_setattr_in in) {
    return fuse_->call(FUSE_SETATTR, node, FakeBody().add(in));
  }
  void forget(uint64_t node, uint64_t count) {
    fuse_forget_in in = {count};
    fuse_->tell(FUSE_FORGET, node, FakeBody().add(in));
  }
  struct stat below(const std::string& name) {
    struct stat attributes = {};
    EXPECT_EQ(lstat((path_ + "/" + name).c_str(), &attributes), 0);
    return attributes;
  }

  std::string path_;
  FileDescriptor backing_;
  RecordingObserver observer_;
  std::unique_ptr<FakeFuse> fuse_;
};

TEST_F(FuseSession, AsksForTheWritebackCacheAndLeavesTheLocksToTheKernel) {
  uint32_t flags = fuse_->negotiated().flags;
  EXPECT_TRUE(flags & FUSE_WRITEBACK_CACHE);
  EXPECT_TRUE(flags & FUSE_HANDLE_KILLPRIV_V2) << "else every write costs a GETXATTR";
  EXPECT_TRUE(flags & FUSE_POSIX_ACL);
  EXPECT_TRUE(flags & FUSE_DONT_MASK);
  EXPECT_FALSE(flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS));
  EXPECT_FALSE(flags & FUSE_ATOMIC_O_TRUNC);
  EXPECT_FALSE(flags & FUSE_AUTO_INVAL_DATA);
  EXPECT_EQ(fuse_->negotiated().max_write, 1u << 20);
}

TEST_F(FuseSession, RemembersThatANameDoesNotExist) {
  FakeReply reply = lookup("missing");
  EXPECT_EQ(reply.error, 0);
  EXPECT_EQ(reply.as<fuse_entry_out>().nodeid, 0u);
  EXPECT_GT(reply.as<fuse_entry_out>().entry_valid, 1000000u);
}

TEST_F(FuseSession, TellsTheObserverOfAFilesLifeInOrder) {
  observer_.take();
  uint64_t node = create("file").as<fuse_entry_out>().nodeid;
  EXPECT_EQ(write(node, 3, "text").as<fuse_write_out>().size, 4u);
  EXPECT_EQ(fuse_->call(FUSE_FSYNC, node, FakeBody().add(fuse_fsync_in{})).error, 0);
  EXPECT_EQ(read(node, 3, 100).text(), "text");
  EXPECT_EQ(release(node).error, 0);
  forget(node, 1);
  EXPECT_EQ(lookup("nothing").error, 0);
  EXPECT_THAT(observer_.take(),
              ElementsAre("attach file", "created file", "opened_writable", "before_write 3 text",
                          "wrote 3 4", "before_fsync", "synced", "attributes_changed",
                          "closed_writable", "detach"));
}

TEST_F(FuseSession, TellsTheObserverBeforeANameGoesAway) {
  create("a");
  create("b");
  observer_.take();
  fuse_rename2_in in = {};
  in.newdir = FUSE_ROOT_ID;
  EXPECT_EQ(fuse_->call(FUSE_RENAME2, FUSE_ROOT_ID, FakeBody().add(in).name("a").name("b")).error,
            0);
  EXPECT_EQ(fuse_->call(FUSE_UNLINK, FUSE_ROOT_ID, FakeBody().name("b")).error, 0);
  EXPECT_THAT(observer_.take(), ElementsAre("before_rename a b over", "renamed a b",
                                            "before_unlink b", "unlinked b"));
}

TEST_F(FuseSession, SaysNullForANameThatTheKernelDoesNotKnow) {
  std::ofstream(path_ + "/strange") << "x";
  observer_.take();
  EXPECT_EQ(fuse_->call(FUSE_UNLINK, FUSE_ROOT_ID, FakeBody().name("strange")).error, 0);
  EXPECT_THAT(observer_.take(), ElementsAre("before_unlink strange unknown", "unlinked strange"));
}

TEST_F(FuseSession, AnFsyncOfTheFlusherIsOnlyABarrier) {
  uint64_t node = create("file").as<fuse_entry_out>().nodeid;
  fuse_->operations().set_flusher_pid(77);
  fuse_->set_caller(0, 0, 77);
  observer_.take();
  EXPECT_EQ(fuse_->call(FUSE_FSYNC, node, FakeBody().add(fuse_fsync_in{})).error, 0);
  EXPECT_TRUE(observer_.take().empty());
}

// libfuse before 3.17 does not know the request.
TEST_F(FuseSession, MakesAFileWithoutAName) {
  fuse_create_in in = {};
  in.flags = O_RDWR;
  in.mode = S_IFREG | 0666;
  in.umask = 027;
  const auto reply = fuse_->call(kOpcodeUnnamed, FUSE_ROOT_ID, FakeBody().add(in).name("#1"));
  ASSERT_EQ(reply.error, 0);
  const auto made = reply.as<fuse_entry_out>();
  EXPECT_EQ(made.attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(made.attr.nlink, 0u);
  EXPECT_TRUE(std::filesystem::is_empty(path_));
  fuse_link_in link = {};
  link.oldnodeid = made.nodeid;
  EXPECT_EQ(fuse_->call(FUSE_LINK, FUSE_ROOT_ID, FakeBody().add(link).name("named")).error, 0);
  EXPECT_EQ(below("named").st_nlink, 1u);
}

TEST_F(FuseSession, RefusesARequestForAFileWithoutANameThatIsTooShortOrNamesNoDirectory) {
  EXPECT_EQ(fuse_->call(kOpcodeUnnamed, FUSE_ROOT_ID, FakeBody()).error, EINVAL);
  EXPECT_EQ(fuse_->call(kOpcodeUnnamed, 4711, FakeBody().add(fuse_create_in{}).name("#1")).error,
            ESTALE);
}

TEST_F(FuseSession, CreatesWithTheCallersUmask) {
  create("open", O_RDWR, 0666, 0);
  create("closed", O_RDWR, 0666, 077);
  EXPECT_EQ(below("open").st_mode & 07777, 0666u);
  EXPECT_EQ(below("closed").st_mode & 07777, 0600u);
}

TEST_F(FuseSession, CreatesForTheCallersUserAndGroup) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  fuse_->set_caller(1000, 1001);
  create("file");
  fuse_mkdir_in in = {0755, 022};
  fuse_->call(FUSE_MKDIR, FUSE_ROOT_ID, FakeBody().add(in).name("dir"));
  EXPECT_EQ(below("file").st_uid, 1000u);
  EXPECT_EQ(below("file").st_gid, 1001u);
  EXPECT_EQ(below("dir").st_uid, 1000u);
}

TEST_F(FuseSession, AWriteWithTheKillFlagClearsTheSuidBit) {
  uint64_t node = create("tool").as<fuse_entry_out>().nodeid;
  chmod((path_ + "/tool").c_str(), 06755);
  write(node, 0, "x");
  EXPECT_EQ(below("tool").st_mode & 07777, 06755u);
  write(node, 0, "x", FUSE_WRITE_KILL_SUIDGID);
  EXPECT_EQ(below("tool").st_mode & 07777, 0755u);
}

TEST_F(FuseSession, ATruncationWithTheKillFlagClearsTheSuidBit) {
  uint64_t node = create("tool").as<fuse_entry_out>().nodeid;
  chmod((path_ + "/tool").c_str(), 04755);
  observer_.take();
  fuse_setattr_in in = {};
  in.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;
  in.size = 10;
  EXPECT_EQ(set_attributes(node, in).as<fuse_attr_out>().attr.size, 10u);
  EXPECT_EQ(below("tool").st_mode & 07777, 0755u);
  EXPECT_THAT(observer_.take(),
              ElementsAre("before_truncate 10", "truncated 10", "attributes_changed"));
}

TEST_F(FuseSession, AppendAndDirectFlagsDoNotReachTheBackingFile) {
  create("log", O_WRONLY | O_APPEND);
  uint64_t node = node_of("log");
  write(node, 0, "0123456789");
  write(node, 2, "ab");
  EXPECT_EQ(read(node, 0, 100).text(), "01ab456789");
}

TEST_F(FuseSession, AnUnlinkedFileIsServedUntilItIsReleased) {
  uint64_t node = create("file").as<fuse_entry_out>().nodeid;
  write(node, 0, "still here");
  EXPECT_EQ(fuse_->call(FUSE_UNLINK, FUSE_ROOT_ID, FakeBody().name("file")).error, 0);
  EXPECT_EQ(read(node, 0, 100).text(), "still here");
  auto attributes = fuse_->call(FUSE_GETATTR, node, FakeBody().add(fuse_getattr_in{}));
  EXPECT_EQ(attributes.as<fuse_attr_out>().attr.nlink, 0u);
}

TEST_F(FuseSession, ReadsDoNotGoBeyondTheEndOfTheFile) {
  uint64_t node = create("file").as<fuse_entry_out>().nodeid;
  write(node, 0, "abc");
  EXPECT_EQ(read(node, 0, 1 << 20).text(), "abc");
  EXPECT_EQ(read(node, 3, 10).body.size(), 0u);
  EXPECT_EQ(read(node, 1000000, 10).body.size(), 0u);
}

TEST_F(FuseSession, TheStateDirectoryCannotBeReached) {
  mkdir((path_ + "/.walfs").c_str(), 0700);
  EXPECT_EQ(lookup(".walfs").as<fuse_entry_out>().nodeid, 0u);
  EXPECT_EQ(create(".walfs").error, EPERM);
  EXPECT_EQ(fuse_->call(FUSE_RMDIR, FUSE_ROOT_ID, FakeBody().name(".walfs")).error, ENOENT);
  fuse_rename2_in in = {};
  in.newdir = FUSE_ROOT_ID;
  create("file");
  EXPECT_EQ(
      fuse_->call(FUSE_RENAME2, FUSE_ROOT_ID, FakeBody().add(in).name("file").name(".walfs")).error,
      EPERM);
  EXPECT_EQ(
      fuse_->call(FUSE_RENAME2, FUSE_ROOT_ID, FakeBody().add(in).name(".walfs").name("x")).error,
      ENOENT);
}

TEST_F(FuseSession, UnknownNodesAreStale) {
  EXPECT_EQ(fuse_->call(FUSE_GETATTR, 4242, FakeBody().add(fuse_getattr_in{})).error, ESTALE);
  EXPECT_EQ(lookup("x", 4242).error, ESTALE);
  EXPECT_EQ(read(4242, 0, 10).error, ESTALE);
  EXPECT_EQ(write(4242, 0, "x").error, ESTALE);
}

std::vector<std::string> names_of(const FakeReply& reply, bool plus) {
  std::vector<std::string> names;
  size_t head = plus ? offsetof(fuse_direntplus, dirent) : 0;
  for (size_t at = 0; at + head + sizeof(fuse_dirent) <= reply.body.size();) {
    auto item = reply.as<fuse_dirent>(at + head);
    const auto* name =
        reinterpret_cast<const char*>(reply.body.data()) + at + head + offsetof(fuse_dirent, name);
    names.emplace_back(name, item.namelen);
    at += FUSE_DIRENT_ALIGN(head + offsetof(fuse_dirent, name) + item.namelen);
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST_F(FuseSession, ListsADirectoryWithAndWithoutAttributes) {
  create("one");
  create("two");
  mkdir((path_ + "/.walfs").c_str(), 0700);
  fuse_read_in in = {};
  in.size = 65536;
  FakeReply plain = fuse_->call(FUSE_READDIR, FUSE_ROOT_ID, FakeBody().add(in));
  EXPECT_THAT(names_of(plain, false), ElementsAre(".", "..", "one", "two"));
  FakeReply plus = fuse_->call(FUSE_READDIRPLUS, FUSE_ROOT_ID, FakeBody().add(in));
  EXPECT_THAT(names_of(plus, true), ElementsAre(".", "..", "one", "two"));
}

TEST_F(FuseSession, AListingThatDoesNotFitGoesOnWhereItStopped) {
  constexpr int kFiles = 300;
  for (int i = 0; i < kFiles; ++i) std::ofstream(path_ + "/name-" + std::to_string(i));
  std::vector<std::string> all;
  size_t nodes_before = fuse_->operations().nodes().size();
  fuse_read_in in = {};
  in.size = 4096;
  while (true) {
    FakeReply reply = fuse_->call(FUSE_READDIRPLUS, FUSE_ROOT_ID, FakeBody().add(in));
    ASSERT_EQ(reply.error, 0);
    if (reply.body.empty()) break;
    constexpr size_t kHead = offsetof(fuse_direntplus, dirent);
    for (size_t at = 0; at < reply.body.size();) {
      auto item = reply.as<fuse_dirent>(at + kHead);
      in.offset = item.off;
      at += FUSE_DIRENT_ALIGN(kHead + offsetof(fuse_dirent, name) + item.namelen);
    }
    for (std::string& name : names_of(reply, true)) all.push_back(std::move(name));
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all.size(), kFiles + 2u);
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end()) << "no name comes twice";
  EXPECT_EQ(fuse_->operations().nodes().size(), nodes_before + kFiles)
      << "one lookup for each item that was handed out";
}

TEST_F(FuseSession, ForgottenNodesAreGone) {
  create("file");
  uint64_t node = node_of("file");  // The second lookup of it.
  release(node);
  forget(node, 2);
  EXPECT_EQ(lookup("other").error, 0);
  // FORGET has no answer: another thread may still be at it.
  for (int i = 0; i < 1000 && fuse_->operations().nodes().get(node); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(fuse_->operations().nodes().get(node), nullptr);
}

TEST_F(FuseSession, ServesManyThreadsAtOnce) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::string name = "file" + std::to_string(i);
      for (int round = 0; round < 50; ++round) {
        uint64_t node = create(name).as<fuse_entry_out>().nodeid;
        std::string text = name + " round " + std::to_string(round);
        write(node, 0, text);
        if (read(node, 0, 100).text() != text) wrong += 1;
        if (lookup("file" + std::to_string((i + 1) % 4)).error != 0) wrong += 1;
        if (release(node).error != 0) wrong += 1;
        if (fuse_->call(FUSE_UNLINK, FUSE_ROOT_ID, FakeBody().name(name)).error != 0) wrong += 1;
        forget(node, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace walfs::test
