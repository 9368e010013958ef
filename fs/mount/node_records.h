// The nodes as the kernel knows them, in the shared state.
//
// A record's counts are what the kernel has been told: they change with a reply, or with a FORGET,
// and never by themselves. The server's own counts (nodes.h) may be ahead of them while a request
// is being served.
//
// An id is a serial number and the record's index, so that ids are never reused and a record is
// found without a search. Any thread may call any function.
#pragma once

#include <cstdint>
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

  // The record of a new node that the kernel does not know yet; its descriptor is in the keeper's
  // hands before this returns. 0 if there is no room.
  NodeId add(int path_fd, uint64_t device, uint64_t inode);
  void remove(NodeId id);

  // Stores what the slot's request changes, all or nothing, and sets the slot's next state.
  // `effects` is used up.
  void settle(RequestSlot& slot, std::vector<NodeEffect>& effects, SlotState next);

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
};

}  // namespace walfs
