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
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/mount/adapter.h"
#include "fs/mount/crash_points.h"
#include "fs/mount/fuse_api.h"
#include "fs/mount/reader_gate.h"
#include "fs/mount/request.h"
#include "fs/mount/unnamed.h"

namespace walfs {
namespace {

constexpr uint32_t kOpcodes = 64;
// A request that every server dies of must not keep the mount from being served.
constexpr uint32_t kAttemptsMax = 4;
constexpr std::chrono::seconds kReplayMax(2);
constexpr std::chrono::milliseconds kAloneMax(500);
// FUSE_NOTIFY_RESEND and the flag that says the kernel has it; in <linux/fuse.h> since Linux 6.9.
constexpr int kNotifyResend = 7;
constexpr uint32_t kHasResend = 1U << 7;  // In flags2.

class FuseSession : public Session {
 public:
  FuseSession(int device_fd, Operations& operations, RequestJournal& journal,
              const SessionOptions& options)
      : device_fd_(device_fd),
        operations_(operations),
        journal_(journal),
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
  ssize_t read_one(RequestSlot& slot) const;
  void process(RequestSlot& slot, size_t size);
  void process_and_finish(RequestSlot& slot, size_t size);
  void serve_unnamed(const RequestSlot& slot, size_t size);
  void forget_nodes(RequestSlot& slot, size_t size);
  Status first_handshake();
  Status repeat_handshake();
  void serve_requests(size_t thread);
  void replay(size_t thread);
  void replay_slot(RequestSlot& slot);
  void wait_for_replays();
  void ask_for_the_rest() const;
  void wait_awake();
  static ssize_t answer_init(int fd, const iovec* parts, int count);
  static ssize_t send_init_answer(int fd);

  const int device_fd_;
  Operations& operations_;
  RequestJournal& journal_;
  const SessionOptions options_;
  fuse_session* session_ = nullptr;
  std::mutex replay_mutex_;
  std::condition_variable replay_changed_;
  std::timed_mutex suspects_mutex_;
  int replaying_ = 0;          // Threads that do what a server that died has left.
  bool serves_early_ = false;  // One of them goes on with new requests while others still do.
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

bool holds_init(const RequestSlot& slot) {
  fuse_in_header header;
  std::memcpy(&header, slot.request.data(), sizeof header);
  return header.opcode == FUSE_INIT;
}

// Set while INIT is answered: where the answer is noted.
thread_local InitExchange* init_exchange = nullptr;
thread_local RequestJournal* thread_journal = nullptr;

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
  if (init_exchange != nullptr) return answer_init(fd, parts, count);
  return CurrentRequest::reply(*thread_journal, fd, parts, count);
}

// The kernel skips a GETXATTR of security.capability before every write if clearing suid bits is
// left to us in version 2, which libfuse does not know. What libfuse answers to an INIT that is
// repeated is not for the kernel.
ssize_t FuseSession::answer_init(int fd, const iovec* parts, int count) {
  std::vector<uint8_t> reply;
  for (int i = 0; i < count; ++i) {
    const auto* part = static_cast<const uint8_t*>(parts[i].iov_base);
    reply.insert(reply.end(), part, part + parts[i].iov_len);
  }
  InitExchange& exchange = *init_exchange;
  if (exchange.answered != 0 || reply.size() < sizeof exchange.header)
    return static_cast<ssize_t>(reply.size());
  fuse_init_in request;
  std::memcpy(&request, exchange.request.data() + sizeof(fuse_in_header), sizeof request);
  std::memcpy(&exchange.header, reply.data(), sizeof exchange.header);
  const size_t size = std::min(reply.size() - sizeof exchange.header, sizeof exchange.answer);
  exchange.answer = {};
  std::memcpy(&exchange.answer, reply.data() + sizeof exchange.header, size);
  exchange.answer.flags |= request.flags & FUSE_HANDLE_KILLPRIV_V2;
  exchange.header.len = static_cast<uint32_t>(sizeof exchange.header + size);
  exchange.answered = 1;
  crash_point(CrashPoint::kKept);
  return send_init_answer(fd);
}

ssize_t FuseSession::send_init_answer(int fd) {
  InitExchange& exchange = *init_exchange;
  const iovec parts[2] = {{&exchange.header, sizeof exchange.header},
                          {&exchange.answer, exchange.header.len - sizeof exchange.header}};
  return ::writev(fd, parts, 2);
}

ssize_t FuseSession::read_one(RequestSlot& slot) const {
  RequestJournal::expect(slot);
  while (true) {
    ssize_t size = ::read(device_fd_, slot.request.data(), slot.request.size());
    if (size > 0) return size;
    if (size == 0 || errno == ENODEV) return 0;
    // ENOENT: the request was interrupted before we got it.
    if (errno != EINTR && errno != ENOENT && errno != EAGAIN) return -1;
  }
}

void FuseSession::process(RequestSlot& slot, size_t size) {
  fuse_in_header header;
  if (size < sizeof header) return;
  std::memcpy(&header, slot.request.data(), sizeof header);
  counts_[header.opcode % kOpcodes].fetch_add(1, std::memory_order_relaxed);
  const CurrentRequest current(journal_, slot, size);
  if (header.opcode == kOpcodeUnnamed) return serve_unnamed(slot, size);
  if (header.opcode == FUSE_FORGET || header.opcode == FUSE_BATCH_FORGET)
    return forget_nodes(slot, size);
  fuse_buf request = {};
  request.size = size;
  request.mem = slot.request.data();
  request.fd = -1;
  fuse_session_process_buf(session_, &request);
  if (header.opcode != FUSE_FSYNC || CurrentRequest::may_be_answered_later()) return;
  if (const auto work = CurrentRequest::take_afterwards()) work();
}

void FuseSession::process_and_finish(RequestSlot& slot, size_t size) {
  process(slot, size);
  if (const auto work = CurrentRequest::take_afterwards()) work();
}

void FuseSession::serve_unnamed(const RequestSlot& slot, size_t size) {
  Unnamed made = make_unnamed(operations_, slot.request.data(), size);
  const iovec reply = {&made.reply, made.reply.header.len};
  const bool taken = CurrentRequest::reply(journal_, device_fd_, &reply, 1) >= 0;
  if (taken || made.error != 0) return;
  operations_.release(made.node, made.flags);
  operations_.forget(made.node, 1);
}

// Has no answer: the counts are stored first, in steps that are each all or nothing.
void FuseSession::forget_nodes(RequestSlot& slot, size_t size) {
  constexpr size_t kAtOnce = 512;
  fuse_in_header header;
  std::memcpy(&header, slot.request.data(), sizeof header);
  std::vector<fuse_forget_one> forgets;
  if (const auto one = CurrentRequest::body<fuse_forget_in>(FUSE_FORGET)) {
    forgets.push_back({header.nodeid, one->nlookup});
  } else if (const auto batch = CurrentRequest::body<fuse_batch_forget_in>(FUSE_BATCH_FORGET)) {
    constexpr size_t kBegin = sizeof header + sizeof *batch;
    forgets.resize(std::min<size_t>(batch->count, (size - kBegin) / sizeof(fuse_forget_one)));
    std::memcpy(forgets.data(), slot.request.data() + kBegin, forgets.size() * sizeof forgets[0]);
  }
  for (size_t i = slot.forgets_done; i < forgets.size();) {
    const size_t end = std::min(i + kAtOnce, forgets.size());
    std::vector<NodeEffect> effects;
    for (size_t k = i; k < end; ++k)
      effects.push_back({forgets[k].nodeid, -static_cast<int64_t>(forgets[k].nlookup), 0, 0});
    slot.forgets_next = static_cast<uint32_t>(end);
    journal_.records().settle(slot, effects, SlotState::kReading);
    for (; i < end; ++i) operations_.forget(forgets[i].nodeid, forgets[i].nlookup);
    CurrentRequest::forget_counts();
  }
}

Status FuseSession::handshake() {
  thread_journal = &journal_;
  init_exchange = &journal_.state().init;
  Status done = init_exchange->answered != 0 ? repeat_handshake() : first_handshake();
  init_exchange = nullptr;
  return done;
}

Status FuseSession::first_handshake() {
  RequestSlot& slot = journal_.state().slots[0];
  // The kernel sends it once: a server may have died of it.
  const auto left = static_cast<ssize_t>(RequestJournal::size_of_left(slot));
  const ssize_t size = left != 0 ? left : read_one(slot);
  if (size < 0) return error_from_errno("cannot read from the FUSE device", errno);
  fuse_in_header header = {};
  if (static_cast<size_t>(size) >= sizeof header)
    std::memcpy(&header, slot.request.data(), sizeof header);
  InitExchange& exchange = *init_exchange;
  const auto length = static_cast<size_t>(size);
  if (header.opcode != FUSE_INIT || length > exchange.request.size() ||
      length < sizeof header + sizeof(fuse_init_in))
    return Error{Errc::kIo, "the kernel did not begin with INIT; was the mount given up?"};
  std::memcpy(exchange.request.data(), slot.request.data(), length);
  exchange.request_size = static_cast<uint32_t>(length);
  process(slot, length);
  crash_point(CrashPoint::kReplied);
  return {};
}

// INIT is served again with nothing on offer but what was agreed on then, and under a number that
// the kernel never gives.
Status FuseSession::repeat_handshake() {
  const InitExchange& exchange = *init_exchange;
  // ENOENT: the kernel has heard it already.
  if (send_init_answer(device_fd_) < 0 && errno != ENOENT)
    return error_from_errno("cannot answer the kernel's INIT", errno);
  RequestSlot& slot = journal_.state().slots[0];
  if (holds_init(slot)) slot.state = SlotState::kFree;
  fuse_in_header header;
  fuse_init_in body;
  std::vector<uint8_t> request(exchange.request.begin(),
                               exchange.request.begin() + exchange.request_size);
  std::memcpy(&header, request.data(), sizeof header);
  std::memcpy(&body, request.data() + sizeof header, sizeof body);
  header.unique = UINT64_MAX / 2;
  body.flags &= exchange.answer.flags | FUSE_INIT_EXT;
  body.flags2 &= exchange.answer.flags2;
  std::memcpy(request.data(), &header, sizeof header);
  std::memcpy(request.data() + sizeof header, &body, sizeof body);
  fuse_buf repeated = {};
  repeated.size = request.size();
  repeated.mem = request.data();
  repeated.fd = -1;
  fuse_session_process_buf(session_, &repeated);
  return {};
}

// What is not finished here in time goes on while new requests are served.
void FuseSession::replay(size_t thread) {
  SharedState& state = journal_.state();
  for (size_t i = thread; i < kSlotsMax; i += static_cast<size_t>(options_.threads))
    replay_slot(state.slots[i]);
  if (thread != 0) return;
  while (const size_t size = journal_.take_parked(state.slots[0])) {
    state.replayed.fetch_add(1, std::memory_order_relaxed);
    process_and_finish(state.slots[0], size);
  }
  journal_.send_all_parked(device_fd_);
}

void FuseSession::replay_slot(RequestSlot& slot) {
  const bool reply_kept = slot.state == SlotState::kReplying;
  size_t size = RequestJournal::size_of_left(slot);
  // Once a server has died of what it did again, each is done alone: only one of them is to blame.
  // Not for ever: one may wait for what another does.
  std::unique_lock alone(suspects_mutex_, std::defer_lock);
  if (size != 0 && slot.attempts != 0) static_cast<void>(alone.try_lock_for(kAloneMax));
  if (reply_kept || size != 0) journal_.state().replayed.fetch_add(1, std::memory_order_relaxed);
  if (size != 0 && ++slot.attempts > kAttemptsMax) {
    fuse_in_header header;
    std::memcpy(&header, slot.request.data(), sizeof header);
    spdlog::error("a request (opcode {}) that {} servers died of fails", header.opcode,
                  kAttemptsMax);
    const fuse_out_header failed = {sizeof failed, -EIO, header.unique};
    if (::write(device_fd_, &failed, sizeof failed) < 0 && errno != ENOENT)
      spdlog::error("cannot answer it: {}", std::strerror(errno));
    size = 0;
  }
  // ENOENT: the kernel has heard it already.
  if (reply_kept && ::write(device_fd_, slot.reply.data(), slot.reply_size) < 0 && errno != ENOENT)
    spdlog::error("cannot send a kept reply: {}", std::strerror(errno));
  if (size != 0) process_and_finish(slot, size);
  slot.state = SlotState::kFree;
}

// The kernel sends again what it has sent and nobody has answered. The journal has all of that; if
// a hole were in it, nobody would wait for ever. Only while nobody serves a request, and no answer
// is still to come: a request gets another number when it is sent again.
void FuseSession::ask_for_the_rest() const {
  if (journal_.any_parked() || !kernel_can_resend(journal_.state().init)) return;
  const fuse_out_header resend = {sizeof resend, kNotifyResend, 0};
  if (::write(device_fd_, &resend, sizeof resend) < 0)
    spdlog::debug("the kernel does not resend: {}", std::strerror(errno));
}

void FuseSession::wait_for_replays() {
  std::unique_lock lock(replay_mutex_);
  const bool all_done = --replaying_ == 0;
  if (all_done) {
    if (journal_.state().servers > 1 && !serves_early_) ask_for_the_rest();
    replay_changed_.notify_all();
  }
  if (!replay_changed_.wait_for(lock, kReplayMax, [this] { return replaying_ <= 0; }))
    serves_early_ = true;
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

void FuseSession::serve_requests(size_t thread) {
  thread_journal = &journal_;
  RequestSlot& slot = journal_.state().slots[thread];
  // A page fault could wait for memory that only the write-back of this very mount can free.
  mlock(&slot, sizeof slot);
  if (options_.realtime) run_before_others();
  int error = prepare_thread_to_act_as_callers();
  if (error == 0) replay(thread);
  wait_for_replays();
  bool served = false;
  bool at_device = error == 0 && gate_.enter();
  while (at_device) {
    if (served && options_.spin_us > 0) wait_awake();
    ssize_t size = read_one(slot);
    if (size < 0) error = errno;
    if (size <= 0) break;
    auto length = static_cast<size_t>(size);
    bool long_work = length >= sizeof(fuse_in_header) && may_take_long(slot.request.data(), length);
    if (long_work) gate_.leave();
    being_served_.fetch_add(1, std::memory_order_relaxed);
    process(slot, length);
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
  const size_t count = static_cast<size_t>(std::max(0, options_.threads));
  replaying_ = static_cast<int>(count);
  journal_.free_claimed();
  std::vector<std::thread> threads;
  threads.reserve(count);
  for (size_t i = 0; i < count; ++i) threads.emplace_back([this, i] { serve_requests(i); });
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
                                                 RequestJournal& journal,
                                                 const SessionOptions& options) {
  auto session = std::make_unique<FuseSession>(device_fd, operations, journal, options);
  WALFS_TRY(session->open());
  return std::unique_ptr<Session>(std::move(session));
}

bool kernel_can_resend(const InitExchange& exchange) {
  fuse_init_in offered;
  std::memcpy(&offered, exchange.request.data() + sizeof(fuse_in_header), sizeof offered);
  return (offered.flags2 & kHasResend) != 0;
}

bool can_replace_server() {
  return WALFS_LIBFUSE >= 314;
}

}  // namespace walfs
