// The request that this thread is serving: what the kernel says and libfuse does not pass on, and
// what must be noted for a server that goes on after this one (request_journal.h).
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "fs/mount/request_journal.h"

namespace walfs {

// What stood at the names of a request before it was first executed; inode 0: nothing.
struct NamesBefore {
  bool repeated = false;  // It may have been executed, at least in part, by a server that died.
  uint64_t source = 0;
  uint64_t target = 0;
};

class CurrentRequest {
 public:
  // While it lives, the functions below are about the request in the slot. Its end frees the slot.
  CurrentRequest(RequestJournal& journal, RequestSlot& slot, size_t size);
  ~CurrentRequest();
  CurrentRequest(const CurrentRequest&) = delete;
  CurrentRequest& operator=(const CurrentRequest&) = delete;

  // The body of the request if it has this opcode and is long enough.
  template <typename Body>
  static std::optional<Body> body(uint32_t opcode) {
    fuse_in_header header;
    if (current_ == nullptr || current_->size_ < sizeof header + sizeof(Body)) return std::nullopt;
    std::memcpy(&header, current_->slot_.request.data(), sizeof header);
    if (header.opcode != opcode) return std::nullopt;
    Body body;
    std::memcpy(&body, current_->slot_.request.data() + sizeof header, sizeof body);
    return body;
  }

  // Work that may take long: this thread does it once the callback has returned, while another
  // waits at the device.
  static void do_afterwards(std::function<void()> work) { afterwards_ = std::move(work); }
  static std::function<void()> take_afterwards() { return std::exchange(afterwards_, nullptr); }
  // Whether the answer may come when this thread serves another request already.
  static bool may_be_answered_later() { return current_ == nullptr || current_->parked_; }

  // The request changes what the kernel holds of a node, as soon as it is answered.
  static void count(const NodeEffect& effect) {
    if (current_ != nullptr) current_->effects_.push_back(effect);
  }
  static void forget_counts() { thread_effects_.clear(); }
  // Whether one more count() can be kept.
  static bool can_count_more() {
    return current_ == nullptr || current_->effects_.size() < kEffectsMax - 16;
  }
  // Called before names are changed, once, with the inodes that stand there now.
  static NamesBefore names_before(uint64_t source, uint64_t target);

  // Sends the answer to this request, or to one that another thread has parked; or holds it back
  // until the store has what it acknowledges. As writev(2).
  static ssize_t reply(RequestJournal& journal, int device, const iovec* parts, int count);

 private:
  void keep(const iovec* parts, int count);
  bool hold(int device, const iovec* parts, int count);
  bool refuse(int device) const;

  RequestJournal& journal_;
  RequestSlot& slot_;
  const size_t size_;
  fuse_in_header header_ = {};
  bool parked_ = false;
  bool replied_ = false;
  std::vector<NodeEffect>& effects_;  // Of the thread, so that its memory is used again.

  static inline thread_local std::function<void()> afterwards_;
  static inline thread_local std::vector<NodeEffect> thread_effects_;
  static inline thread_local CurrentRequest* current_ = nullptr;
};

}  // namespace walfs
