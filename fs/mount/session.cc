#include "fs/mount/session.h"

#include <poll.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "fs/mount/adapter.h"
#include "fs/mount/fuse_api.h"
#include "fs/mount/reader_gate.h"
#include "fs/mount/request.h"
#include "fs/mount/unnamed.h"

namespace walfs {
namespace {

// The largest request: a WRITE of 1 MiB and its headers.
constexpr size_t kRequestSizeMax = (1U << 20) + 4096;
constexpr uint32_t kOpcodes = 64;

// A request's room, in memory from the start: a page fault could wait for memory that only the
// write-back of this very mount can free.
class RequestBuffer {
 public:
  RequestBuffer()
      : data_(mmap(nullptr, kRequestSizeMax, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)) {
    if (data_ != MAP_FAILED) mlock(data_, kRequestSizeMax);
  }
  ~RequestBuffer() {
    if (data_ != MAP_FAILED) munmap(data_, kRequestSizeMax);
  }
  RequestBuffer(const RequestBuffer&) = delete;
  RequestBuffer& operator=(const RequestBuffer&) = delete;
  bool valid() const { return data_ != MAP_FAILED; }
  uint8_t* data() { return static_cast<uint8_t*>(data_); }

 private:
  void* data_;
};

class FuseSession : public Session {
 public:
  FuseSession(int device_fd, Operations& operations, const SessionOptions& options)
      : device_fd_(device_fd),
        operations_(operations),
        options_(options),
        gate_(std::max(2, static_cast<int>(std::thread::hardware_concurrency()) / 4)) {}
  ~FuseSession() override {
    if (session_ != nullptr) fuse_session_destroy(session_);
  }

  Status open();
  Status handshake() override;
  Status run() override;
  void wait_until_idle(int64_t timeout_ms) override;
  void count_requests(const std::function<void(uint32_t, uint64_t)>& visit) override;

 private:
  static ssize_t write_reply(int fd, iovec* parts, int count, void* user);
  static ssize_t read_request(int fd, void* buffer, size_t size, void* user);
  // The request's size; 0 at the end of the connection; or -1.
  ssize_t read_one(RequestBuffer& buffer);
  void process(RequestBuffer& buffer, size_t size);
  void serve_unnamed(const uint8_t* request, size_t size);
  void serve_requests();
  void wait_awake();
  static ssize_t answer_init(int fd, const iovec* parts, int count);

  const int device_fd_;
  Operations& operations_;
  const SessionOptions options_;
  fuse_session* session_ = nullptr;
  ReaderGate gate_;
  std::atomic<bool> spinner_{false};
  std::atomic<int> failure_{0};
  std::atomic<int> being_served_{0};
  std::array<std::atomic<uint64_t>, kOpcodes> counts_ = {};
};

// Whether the request may wait for a disk, or make the observer do much.
bool may_take_long(const uint8_t* request, size_t size) {
  fuse_in_header header;
  std::memcpy(&header, request, sizeof header);
  switch (header.opcode) {
    case FUSE_WRITE:
      return header.len > 128 * 1024;
    case FUSE_SETATTR: {
      fuse_setattr_in body;
      if (size < sizeof header + sizeof body) return false;
      std::memcpy(&body, request + sizeof header, sizeof body);
      return (body.valid & FATTR_SIZE) != 0;
    }
    case FUSE_GETATTR:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_CREATE:
    case FUSE_GETXATTR:
    case FUSE_INTERRUPT:
    case FUSE_FSYNC:  // Which does what takes long afterwards.
      return false;
    default:
      return true;
  }
}

// Set while INIT is answered when the kernel offers to leave clearing of suid bits to us. Only
// then does it skip a GETXATTR of security.capability before every write.
thread_local bool kill_priv_offered = false;

Status FuseSession::open() {
  char program[] = "walfs";
  char* arguments[] = {program, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session_ = fuse_session_new(&args, &fuse_callbacks(), sizeof(fuse_lowlevel_ops), &operations_);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return Error{Errc::kIo, "libfuse cannot make a session"};
#if WALFS_LIBFUSE >= 314
  static const fuse_custom_io io = [] {
    fuse_custom_io custom = {};
    custom.writev = write_reply;
    custom.read = read_request;
    return custom;
  }();
  if (fuse_session_custom_io(session_, &io, device_fd_) != 0)
    return Error{Errc::kIo, "libfuse does not accept the device"};
#else
  std::string device = "/dev/fd/" + std::to_string(device_fd_);
  if (fuse_session_mount(session_, device.c_str()) != 0)
    return Error{Errc::kIo, "libfuse does not accept the device"};
#endif
  return {};
}

ssize_t FuseSession::read_request(int fd, void* buffer, size_t size, void*) {
  return ::read(fd, buffer, size);
}

ssize_t FuseSession::write_reply(int fd, iovec* parts, int count, void*) {
  if (kill_priv_offered) return answer_init(fd, parts, count);
  return ::writev(fd, parts, count);
}

ssize_t FuseSession::answer_init(int fd, const iovec* parts, int count) {
  std::vector<uint8_t> reply;
  for (int i = 0; i < count; ++i) {
    const auto* part = static_cast<const uint8_t*>(parts[i].iov_base);
    reply.insert(reply.end(), part, part + parts[i].iov_len);
  }
  constexpr size_t kFlags = sizeof(fuse_out_header) + offsetof(fuse_init_out, flags);
  uint32_t flags = 0;
  if (reply.size() >= kFlags + sizeof flags) {
    std::memcpy(&flags, reply.data() + kFlags, sizeof flags);
    flags |= FUSE_HANDLE_KILLPRIV_V2;
    std::memcpy(reply.data() + kFlags, &flags, sizeof flags);
  }
  return ::write(fd, reply.data(), reply.size());
}

ssize_t FuseSession::read_one(RequestBuffer& buffer) {
  while (true) {
    ssize_t size = ::read(device_fd_, buffer.data(), kRequestSizeMax);
    if (size > 0) return size;
    if (size == 0 || errno == ENODEV) return 0;
    // ENOENT: the request was interrupted before we got it.
    if (errno != EINTR && errno != ENOENT && errno != EAGAIN) return -1;
  }
}

void FuseSession::process(RequestBuffer& buffer, size_t size) {
  fuse_in_header header;
  if (size < sizeof header) return;
  std::memcpy(&header, buffer.data(), sizeof header);
  counts_[header.opcode % kOpcodes].fetch_add(1, std::memory_order_relaxed);
  CurrentRequest current(buffer.data(), size);
  fuse_buf request = {};
  request.size = size;
  request.mem = buffer.data();
  request.fd = -1;
  if (header.opcode == kOpcodeUnnamed) {
    serve_unnamed(buffer.data(), size);
  } else {
    fuse_session_process_buf(session_, &request);
  }
}

void FuseSession::serve_unnamed(const uint8_t* request, size_t size) {
  const Unnamed made = make_unnamed(operations_, request, size);
  const bool taken = ::write(device_fd_, &made.reply, made.reply.header.len) >= 0;
  if (taken || made.error != 0) return;
  operations_.release(made.node, made.flags);
  operations_.forget(made.node, 1);
}

Status FuseSession::handshake() {
  RequestBuffer buffer;
  if (!buffer.valid()) return error_from_errno("cannot allocate a request buffer", errno);
  ssize_t size = read_one(buffer);
  if (size < 0) return error_from_errno("cannot read from the FUSE device", errno);
  fuse_in_header header = {};
  if (static_cast<size_t>(size) >= sizeof header)
    std::memcpy(&header, buffer.data(), sizeof header);
  if (header.opcode != FUSE_INIT)
    return Error{Errc::kIo, "the kernel did not begin with INIT; was the mount given up?"};
  {
    CurrentRequest current(buffer.data(), static_cast<size_t>(size));
    auto init = CurrentRequest::body<fuse_init_in>(FUSE_INIT);
    kill_priv_offered = init && (init->flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
  }
  process(buffer, static_cast<size_t>(size));
  kill_priv_offered = false;
  return {};
}

void FuseSession::wait_awake() {
  // One thread at most: the others would only take the processor from the application.
  bool expected = false;
  if (!spinner_.compare_exchange_strong(expected, true)) return;
  auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(options_.spin_us);
  pollfd device = {device_fd_, POLLIN, 0};
  while (poll(&device, 1, 0) == 0 && std::chrono::steady_clock::now() < end) {
  }
  spinner_ = false;
}

// Each step of a request wakes one thread of ours and then one of the application's. Among busy
// processes a normal thread that wakes up waits for the others' time slices, milliseconds each; the
// kernel's own filesystems have no such wait. Without the privilege it stays as it is.
void run_before_others() {
  sched_param priority = {};
  priority.sched_priority = 1;
  if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &priority) != 0) {
    spdlog::debug("serving without real-time priority: {}", std::strerror(errno));
  }
}

void FuseSession::serve_requests() {
  RequestBuffer buffer;
  if (options_.realtime) run_before_others();
  int error = prepare_thread_to_act_as_callers();
  if (error == 0 && !buffer.valid()) error = ENOMEM;
  bool served = false;
  bool at_device = error == 0 && gate_.enter();
  while (at_device) {
    if (served && options_.spin_us > 0) wait_awake();
    ssize_t size = read_one(buffer);
    if (size < 0) error = errno;
    if (size <= 0) break;
    auto length = static_cast<size_t>(size);
    bool long_work = length >= sizeof(fuse_in_header) && may_take_long(buffer.data(), length);
    if (long_work) gate_.leave();
    being_served_.fetch_add(1, std::memory_order_relaxed);
    process(buffer, length);
    if (const auto work = CurrentRequest::take_afterwards()) {
      if (!long_work) gate_.leave();
      long_work = true;
      work();
    }
    being_served_.fetch_sub(1, std::memory_order_release);
    if (long_work) at_device = gate_.enter();
    served = true;
  }
  if (error != 0) failure_ = error;
  gate_.close();
}

Status FuseSession::run() {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(std::max(0, options_.threads)));
  for (int i = 0; i < options_.threads; ++i) threads.emplace_back([this] { serve_requests(); });
  for (std::thread& thread : threads) thread.join();
  if (int error = failure_) return error_from_errno("serving the FUSE device failed", error);
  return {};
}

void FuseSession::wait_until_idle(int64_t timeout_ms) {
  // Between read(2) and the count a request belongs to neither; several looks in a row see it.
  constexpr int kLooks = 10;
  constexpr int kBetweenLooksMs = 5;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (int idle = 0; idle < kLooks && std::chrono::steady_clock::now() < end;) {
    pollfd device = {device_fd_, POLLIN, 0};
    bool queued = poll(&device, 1, 0) != 0;
    idle = queued || being_served_.load(std::memory_order_acquire) != 0 ? 0 : idle + 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(kBetweenLooksMs));
  }
}

void FuseSession::count_requests(const std::function<void(uint32_t, uint64_t)>& visit) {
  for (uint32_t opcode = 0; opcode < kOpcodes; ++opcode) {
    uint64_t count = counts_[opcode].load(std::memory_order_relaxed);
    if (count != 0) visit(opcode, count);
  }
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(int device_fd, Operations& operations,
                                                 const SessionOptions& options) {
  auto session = std::make_unique<FuseSession>(device_fd, operations, options);
  WALFS_TRY(session->open());
  return std::unique_ptr<Session>(std::move(session));
}

}  // namespace walfs
