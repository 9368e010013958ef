// Servers that come and go, each a process, in the hands of a test that plays the kernel and the
// keeper.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "fs/mount/crash_points.h"
#include "fs/mount/kept_descriptors.h"
#include "fs/mount/null_hooks.h"
#include "fs/mount/process.h"
#include "fs/mount/session.h"
#include "tests/support/fake_fuse.h"
#include "tests/support/test_records.h"

namespace walfs::test {

inline constexpr uint32_t kAnyTime = 10000;  // Milliseconds; only a failure takes that long.

inline constexpr int kNotifyResend = 7;          // FUSE_NOTIFY_RESEND, Linux 6.9.
inline constexpr uint32_t kHasResend = 1U << 7;  // FUSE_HAS_RESEND, in flags2.

// Takes its time for each WRITE, and dies of one.
class SlowObserver final : public NullObserver {
 public:
  SlowObserver(uint32_t write_ms, uint64_t deadly) : write_ms_(write_ms), deadly_(deadly) {}
  void before_write(TrackedFile*, uint64_t offset, ByteView) override {
    if (offset == deadly_) kill(getpid(), SIGKILL);
    usleep(write_ms_ * 1000);
  }

 private:
  const uint32_t write_ms_;
  const uint64_t deadly_;
};

// The kernel's side, and the keeper's: servers come and go.
class MortalServer {
 public:
  explicit MortalServer(const std::string& directory, const std::string& crash_point_at_init = "",
                        bool kernel_resends = false)
      : backing_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    kernel_.reset(ends[0]);
    device_.reset(ends[1]);
    nodes_ = *make_channel();
    state_fd_ = *make_shared_state();
    state_ = *map_shared_state(state_fd_.get());
    begin("", crash_point_at_init);
    fuse_init_in init = {};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = 36;
    init.flags = FakeFuse::kOffered;
    if (kernel_resends) {
      init.flags |= FUSE_INIT_EXT;
      init.flags2 = kHasResend;
    }
    send_request(FUSE_INIT, 0, FakeBody().add(init));
    if (!crash_point_at_init.empty()) {
      EXPECT_TRUE(reap());
      begin("");
    }
    if (!answer()) std::abort();
  }
  ~MortalServer() {
    end();
    for (uint32_t i = 0; i < 64; ++i) close(kKeptDescriptorBase + static_cast<int>(i));
    munmap(state_, sizeof(SharedState));
  }
  MortalServer(const MortalServer&) = delete;
  MortalServer& operator=(const MortalServer&) = delete;

  // The next server, which dies at its first pass of the place.
  void begin(const std::string& crash_point, const std::string& crash_point_at_init = "") {
    pid_ = fork();
    if (pid_ == 0) serve(crash_point, crash_point_at_init);
  }
  void end() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    reap();
  }
  // Waits for its death, as the keeper does.
  bool reap() {
    int status = 0;
    const bool reaped = pid_ > 0 && waitpid(pid_, &status, 0) == pid_;
    pid_ = -1;
    receive_descriptors(nodes_.first.get());
    return reaped && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

  uint64_t send_request(uint32_t opcode, uint64_t node, const FakeBody& body) {
    fuse_in_header header = {};
    header.len = static_cast<uint32_t>(sizeof header + body.bytes().size());
    header.opcode = opcode;
    header.unique = unique_ += 2;
    header.nodeid = node;
    header.pid = 1;
    std::vector<uint8_t> packet(header.len);
    std::memcpy(packet.data(), &header, sizeof header);
    if (!body.bytes().empty())
      std::memcpy(packet.data() + sizeof header, body.bytes().data(), body.bytes().size());
    if (send(kernel_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) std::abort();
    return unique_;
  }
  // Whether the server asks within that time for what nobody has answered. Answers are passed over.
  bool asks_for_the_rest(uint32_t timeout_ms) {
    std::vector<uint8_t> packet(1 << 20);
    pollfd waiting = {kernel_.get(), POLLIN, 0};
    while (poll(&waiting, 1, static_cast<int>(timeout_ms)) == 1) {
      fuse_out_header header;
      if (recv(kernel_.get(), packet.data(), packet.size(), 0) <
          static_cast<ssize_t>(sizeof header))
        return false;
      std::memcpy(&header, packet.data(), sizeof header);
      if (header.unique == 0 && header.error == kNotifyResend) return true;
    }
    return false;
  }
  // To the newest request. The kernel ignores what it has had already, and so does this.
  std::optional<FakeReply> answer(uint32_t timeout_ms = kAnyTime) {
    std::vector<uint8_t> packet(1 << 20);
    while (true) {
      pollfd waiting = {kernel_.get(), POLLIN, 0};
      if (poll(&waiting, 1, static_cast<int>(timeout_ms)) != 1) return std::nullopt;
      const ssize_t size = recv(kernel_.get(), packet.data(), packet.size(), 0);
      fuse_out_header header;
      if (size < static_cast<ssize_t>(sizeof header)) return std::nullopt;
      std::memcpy(&header, packet.data(), sizeof header);
      if (header.unique != unique_ || unique_ == answered_) continue;
      answered_ = unique_;
      return FakeReply{-header.error, {packet.begin() + sizeof header, packet.begin() + size}};
    }
  }
  FakeReply call(uint32_t opcode, uint64_t node, const FakeBody& body) {
    send_request(opcode, node, body);
    const auto reply = answer();
    EXPECT_TRUE(reply) << "opcode " << opcode;
    return reply.value_or(FakeReply{ETIMEDOUT, {}});
  }
  uint64_t lookup(const std::string& name) {
    const FakeReply reply = call(FUSE_LOOKUP, kRootNode, FakeBody().name(name));
    return reply.error == 0 ? reply.as<fuse_entry_out>().nodeid : 0;
  }

  const SharedState& state() const { return *state_; }
  // How long each WRITE takes of servers that begin from now on.
  uint32_t write_ms = 0;
  // The offset of a WRITE that they die of.
  uint64_t deadly_offset = UINT64_MAX;
  // How many descriptors they may have; 0: as many as this process.
  rlim_t descriptors_max = 0;

  // What is noted of a node; nothing if it is not known.
  std::optional<NodeCounts> counts(uint64_t id) const {
    const NodeRecord& record = state_->nodes[NodeRecords::index_of(id)];
    if (record.id != id) return std::nullopt;
    return NodeCounts{id, record.lookups, record.handles, record.writers};
  }
  size_t nodes_known() const {
    size_t known = 0;
    for (size_t i = 0; i < 4096; ++i)
      known += state_->nodes[i].id != 0 && state_->nodes[i].lookups != 0 ? 1 : 0;
    return known;
  }

 private:
  static void die_at(const std::string& crash_point) {
    if (crash_point.empty()) return;
    setenv("WALFS_CRASH_POINTS", (crash_point + ":1").c_str(), 1);
    read_crash_points_from_environment(1);
  }
  [[noreturn]] void serve(const std::string& crash_point, const std::string& crash_point_at_init) {
    die_at(crash_point_at_init);
    rlimit limit = {};
    if (descriptors_max != 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
      limit.rlim_cur = descriptors_max;
      setrlimit(RLIMIT_NOFILE, &limit);
    }
    ++state_->servers;
    NodeRecords records(*state_, nodes_.second.get());
    RequestJournal journal(*state_, records);
    SlowObserver observer(write_ms, deadly_offset);
    Operations operations(backing_.get(), observer, records);
    auto session = Session::create(device_.get(), operations, journal, {2, 0});
    if (!session || !(*session)->handshake()) _exit(3);
    die_at(crash_point);
    _exit((*session)->run() ? 0 : 4);
  }

  FileDescriptor backing_, kernel_, device_, state_fd_;
  std::pair<FileDescriptor, FileDescriptor> nodes_;
  SharedState* state_ = nullptr;
  pid_t pid_ = -1;
  uint64_t unique_ = 0, answered_ = 0;
};

}  // namespace walfs::test
