#include "fs/mount/request.h"

#include <unistd.h>

#include <cerrno>
#include <future>

#include "fs/mount/crash_points.h"
#include "fs/mount/unnamed.h"

namespace walfs {
namespace {

// Whether a request that was answered must not be executed again.
bool changes_something(uint32_t opcode) {
  switch (opcode) {
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_WRITE:
    case FUSE_CREATE:
    case FUSE_FALLOCATE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_COPY_FILE_RANGE:
    case kOpcodeUnnamed:
      return true;
    default:
      return false;
  }
}

// Of those that change something: whether it may end a transaction, and when it is executed again,
// without the observer hearing of it.
bool may_have_committed(uint32_t opcode, bool judged) {
  switch (opcode) {
    case FUSE_UNLINK:
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return true;
    case FUSE_WRITE:
    case FUSE_SETATTR:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
      return !judged;
    default:
      return false;
  }
}

}  // namespace

CurrentRequest::CurrentRequest(RequestJournal& journal, RequestSlot& slot, size_t size)
    : journal_(journal), slot_(slot), size_(size), effects_(thread_effects_) {
  std::memcpy(&header_, slot.request.data(), std::min(size, sizeof header_));
  current_ = this;
  effects_.clear();
  crash_point(CrashPoint::kRead);
  if (const auto sync = body<fuse_fsync_in>(FUSE_FSYNC)) {
    parked_ = journal_.park(header_, *sync);
    if (parked_) slot_.state.store(SlotState::kFree, std::memory_order_release);
  }
}

CurrentRequest::~CurrentRequest() {
  if (!parked_) journal_.done(slot_, effects_);
  current_ = nullptr;
  journal_.state().served.fetch_add(1, std::memory_order_relaxed);
}

NamesBefore CurrentRequest::names_before(uint64_t source, uint64_t target) {
  if (current_ == nullptr) return {false, source, target};
  RequestSlot& slot = current_->slot_;
  if (slot.names_noted != 0) return {true, slot.source_inode, slot.target_inode};
  slot.source_inode = source;
  slot.target_inode = target;
  slot.names_noted.store(1, std::memory_order_release);
  return {false, source, target};
}

// What the kernel is about to hear must be known here before.
void CurrentRequest::keep(const iovec* parts, int count) {
  if (effects_.empty() && !changes_something(header_.opcode)) return;
  uint32_t size = 0;
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len > kKeptReplyMax - size) return;
    std::memcpy(slot_.reply.data() + size, parts[i].iov_base, parts[i].iov_len);
    size += static_cast<uint32_t>(parts[i].iov_len);
  }
  slot_.reply_size = size;
  journal_.records().settle(slot_, effects_, SlotState::kReplying);
}

// What a server that died may have committed counts, too.
bool CurrentRequest::hold(int device, const iovec* parts, int count) {
  ReplyGate* const gate = journal_.gate();
  if (gate == nullptr) return false;
  const bool committed = gate->take_committed();
  fuse_out_header header;
  std::memcpy(&header, parts[0].iov_base, sizeof header);
  if (header.error != 0 || !changes_something(header_.opcode)) return false;
  const bool repeated = slot_.attempts != 0;
  if (!committed && !(repeated && may_have_committed(header_.opcode, gate->judges_repeated())))
    return false;
  if (journal_.park_reply(header_, parts, count)) {
    journal_.send_parked(device, header_.unique);
    return true;
  }
  // So many wait already that this thread has to.
  std::promise<int> stored;
  slot_.waits_for_store = 1;
  gate->wait([&stored](int error) { stored.set_value(error); });
  const int error = stored.get_future().get();
  slot_.waits_for_store = 0;
  return error != 0 && refuse(device);
}

bool CurrentRequest::refuse(int device) const {
  const fuse_out_header failed = {sizeof failed, -EIO, header_.unique};
  return ::write(device, &failed, sizeof failed) >= 0;
}

ssize_t CurrentRequest::reply(RequestJournal& journal, int device, const iovec* parts, int count) {
  fuse_out_header header;
  std::memcpy(&header, parts[0].iov_base, sizeof header);
  CurrentRequest* const current = current_;
  const bool own = current != nullptr && current->header_.unique == header.unique;
  crash_point(CrashPoint::kExecuted);
  if (own && !current->parked_ && !current->replied_) {
    current->replied_ = true;
    if (current->hold(device, parts, count)) return static_cast<ssize_t>(header.len);
    current->keep(parts, count);
    crash_point(CrashPoint::kKept);
  }
  const ssize_t sent = ::writev(device, parts, count);
  const int error = errno;
  crash_point(CrashPoint::kReplied);
  if (!own || current->parked_) journal.unpark(header.unique);
  errno = error;
  return sent;
}

}  // namespace walfs
