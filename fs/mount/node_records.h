// The nodes as the kernel knows them, in the shared state.
//
// A record's counts are what the kernel has been told: they change with a reply, or with a FORGET,
// and never by themselves. The server's own counts (nodes.h) may be ahead of them while a request
// is being served.
//
// An id is a serial number and the record's index, so that ids are never reused and a record is
// found without a search. Any thread may call any function.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "fs/mount/shared_state.h"

namespace walfs {

using NodeId = uint64_t;
constexpr NodeId kRootNode = 1;

// A change of what the kernel holds of a node.
struct NodeEffect {
  NodeId id = 0;
  int64_t lookups = 0;
  int32_t handles = 0;
  int32_t writers = 0;
};

class NodeRecords {
 public:
  // descriptors: the channel to the keeper, or -1. Finishes what a server that died was storing,
  // and frees the records of nodes that the kernel does not know.
  NodeRecords(SharedState& state, int descriptors);

  // How many descriptors the process may have open: bounds how many records there may be, which
  // each need one, and where all others leave no room for it. Before the first request.
  void set_descriptor_limit(uint64_t descriptors);
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_; }
  // How long who needs another record should wait first: the fewer descriptors are left, the
  // longer, so that what has been captured can give back its own.
  int64_t brake_ms() const;
  // While more than three quarters of them are in use, `tell` is called with each one that is
  // added, by any thread, which it must not keep.
  void when_crowded(std::function<void()> tell);
  // How many less there should be then.
  uint64_t excess() const;

  // The record of a new node that the kernel does not know yet; its descriptor is in the keeper's
  // hands before this returns. 0 if there is no room.
  NodeId add(int path_fd, uint64_t device, uint64_t inode);
  void remove(NodeId id);

  // Stores what the slot's request changes, all or nothing, and sets the slot's next state.
  // `effects` is used up.
  void settle(RequestSlot& slot, std::vector<NodeEffect>& effects, SlotState next);

  // Up to `most` nodes that the kernel knows and has not opened, of a few thousand records from
  // `first` on; `next` is the one to go on with, after the last one the first again.
  struct IdleNodes {
    std::vector<NodeId> ids;
    uint64_t looked_at = 0;  // Records.
    uint32_t next = 0;
  };
  IdleNodes idle_from(uint32_t first, size_t most);

  // The records that a server that died has left; by one thread, before the first request.
  std::vector<const NodeRecord*> left() const;
  static uint32_t index_of(NodeId id) { return static_cast<uint32_t>(id % kNodesMax); }

 private:
  NodeRecord& record_of(NodeId id) { return state_.nodes[index_of(id)]; }
  static void store(SharedState& state, const RequestSlot& slot);

  SharedState& state_;
  const int descriptors_;
  std::mutex counts_mutex_;
  std::mutex free_mutex_;
  std::vector<uint32_t> free_;
  std::function<void()> tell_crowded_;  // Under free_mutex_.
  uint64_t limit_ = kNodesMax;
  uint64_t descriptors_max_ = UINT64_MAX;
  std::atomic<uint64_t> used_{0};
};

}  // namespace walfs
