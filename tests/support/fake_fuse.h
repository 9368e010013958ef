// FakeFuse plays the kernel: it sends raw FUSE requests over a socket pair to the real session and
// callbacks, with no mount. Any number of threads may send requests at the same time.
#pragma once

#include <linux/fuse.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fs/mount/operations.h"
#include "fs/mount/session.h"
#include "tests/support/test_records.h"

namespace walfs::test {

struct FakeReply {
  int error = 0;  // errno, positive.
  std::vector<uint8_t> body;

  template <typename T>
  T as(size_t offset = 0) const {
    T value = {};
    if (body.size() >= offset + sizeof value)
      std::memcpy(&value, body.data() + offset, sizeof value);
    return value;
  }
  std::string text() const { return {reinterpret_cast<const char*>(body.data()), body.size()}; }
};

// A request's body, put together from structs, strings and bytes.
class FakeBody {
 public:
  template <typename T>
  FakeBody& add(const T& value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof value);
    return *this;
  }
  FakeBody& name(const std::string& text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    bytes_.push_back(0);
    return *this;
  }
  FakeBody& data(const std::string& text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

class FakeFuse {
 public:
  FakeFuse(int backing_fd, FileObserver& observer, int threads = 4)
      : operations_(backing_fd, observer, records_.records()) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    kernel_ = ends[0];
    device_ = ends[1];
    int room = 4 << 20;
    for (int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    auto session = Session::create(device_, operations_, records_.journal(), {threads, 0});
    if (!session) std::abort();
    session_ = std::move(*session);
    reader_ = std::thread([this] { read_replies(); });
    start();
  }

  ~FakeFuse() {
    shutdown(kernel_, SHUT_WR);  // The session sees the end of its requests.
    server_.join();
    session_.reset();
    shutdown(device_, SHUT_RDWR);
    reader_.join();
    close(kernel_);
    close(device_);
  }
  FakeFuse(const FakeFuse&) = delete;
  FakeFuse& operator=(const FakeFuse&) = delete;

  FakeReply call(uint32_t opcode, uint64_t node, const FakeBody& body = {}) {
    uint64_t unique = send_request(opcode, node, body);
    std::unique_lock lock(mutex_);
    bool answered = arrived_.wait_for(lock, std::chrono::seconds(30),
                                      [&] { return replies_.count(unique) != 0; });
    if (!answered) return {ETIMEDOUT, {}};
    FakeReply reply = std::move(replies_[unique]);
    replies_.erase(unique);
    return reply;
  }
  // For FORGET, which has no answer.
  void tell(uint32_t opcode, uint64_t node, const FakeBody& body) {
    send_request(opcode, node, body);
  }

  Operations& operations() { return operations_; }
  const fuse_init_out& negotiated() const { return negotiated_; }
  void set_caller(uint32_t uid, uint32_t gid, uint32_t pid = 1) {
    uid_ = uid;
    gid_ = gid;
    pid_ = pid;
  }

  static constexpr uint32_t kOffered =
      FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_POSIX_LOCKS |
      FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
      FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV |
      FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT |
      FUSE_HANDLE_KILLPRIV_V2;

 private:
  void start() {
    std::thread handshake([this] {
      if (!session_->handshake()) std::abort();
    });
    fuse_init_in init = {};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = 36;
    init.max_readahead = 128 * 1024;
    init.flags = kOffered;
    negotiated_ = call(FUSE_INIT, 0, FakeBody().add(init)).as<fuse_init_out>();
    handshake.join();
    server_ = std::thread([this] {
      if (!session_->run()) std::abort();
    });
  }

  uint64_t send_request(uint32_t opcode, uint64_t node, const FakeBody& body) {
    fuse_in_header header = {};
    header.len = static_cast<uint32_t>(sizeof header + body.bytes().size());
    header.opcode = opcode;
    header.unique = next_unique_.fetch_add(2);
    header.nodeid = node;
    header.uid = uid_;
    header.gid = gid_;
    header.pid = pid_;
    std::vector<uint8_t> packet(header.len);
    std::memcpy(packet.data(), &header, sizeof header);
    if (!body.bytes().empty())
      std::memcpy(packet.data() + sizeof header, body.bytes().data(), body.bytes().size());
    if (send(kernel_, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) std::abort();
    return header.unique;
  }

  void read_replies() {
    std::vector<uint8_t> packet(2 << 20);
    while (true) {
      ssize_t size = recv(kernel_, packet.data(), packet.size(), 0);
      if (size < static_cast<ssize_t>(sizeof(fuse_out_header))) return;
      fuse_out_header header;
      std::memcpy(&header, packet.data(), sizeof header);
      FakeReply reply;
      reply.error = -header.error;
      reply.body.assign(packet.begin() + sizeof header, packet.begin() + size);
      std::lock_guard lock(mutex_);
      replies_[header.unique] = std::move(reply);
      arrived_.notify_all();
    }
  }

  TestRecords records_;
  Operations operations_;
  std::unique_ptr<Session> session_;
  int kernel_ = -1;
  int device_ = -1;
  std::atomic<uint32_t> uid_ = 0;
  std::atomic<uint32_t> gid_ = 0;
  std::atomic<uint32_t> pid_ = 1;
  std::atomic<uint64_t> next_unique_ = 2;
  fuse_init_out negotiated_ = {};
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<uint64_t, FakeReply> replies_;
  std::thread reader_;
  std::thread server_;
};

}  // namespace walfs::test
