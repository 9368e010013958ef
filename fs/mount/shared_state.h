// What must survive the server: memory that the keeper makes and every server maps.
//
// A server can be killed between any two instructions. Whatever the kernel has been told, or is
// owed, is in here by then: the nodes that it knows, the requests that are being served, and the
// replies that are ready but perhaps not sent. The next server goes on from there.
//
// All of it is plain data, changed in place; the order of the stores is what makes it safe (see
// request_journal.h and node_records.h). Nothing is read by two servers at the same time.
#pragma once

#include <linux/fuse.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "fs/tracking/pause.h"
#include "fs/tracking/touched_files.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

// Another layout is another number: a server refuses what it does not know.
constexpr uint64_t kSharedStateFormat = 0x77616c6673000005;

constexpr size_t kSlotsMax = 32;  // Threads that serve requests.
constexpr size_t kParkedMax = 1024;
constexpr size_t kNodesMax = size_t{1} << 20;
// The largest request: a WRITE of 1 MiB and its headers.
constexpr size_t kRequestSizeMax = (size_t{1} << 20) + 4096;
// The largest reply that is kept. READDIRPLUS is the only one with effects that could be larger.
constexpr size_t kKeptReplyMax = size_t{128} << 10;
// The most nodes that one request may change the counts of.
constexpr size_t kEffectsMax = 1024;

// What the kernel holds of one inode. The record's index is part of the node's id.
struct NodeRecord {
  std::atomic<uint64_t> id;  // 0: free.
  uint64_t device;
  uint64_t inode;
  uint64_t lookups;
  uint32_t handles;  // Open handles, and how many of them can write.
  uint32_t writers;
};

// New counts of a node, to be stored however often they have been stored already.
struct NodeCounts {
  uint64_t id;
  uint64_t lookups;
  uint32_t handles;
  uint32_t writers;
};

enum class SlotState : uint32_t {
  kFree,
  kReading,   // A request is being read or executed: do it again.
  kCounting,  // It was executed, and `counts` are being stored: go on with that, then `next`.
  kReplying,  // The reply may not have been sent: send it, and never execute again.
};

// One request that is being served by one thread.
struct RequestSlot {
  std::atomic<SlotState> state;
  SlotState next;     // After kCounting.
  uint32_t attempts;  // How many servers have begun to execute it.
  uint32_t counts_size;
  uint32_t forgets_done;  // Of a BATCH_FORGET.
  uint32_t forgets_next;  // The same after kCounting.
  uint32_t reply_size;
  // Its answer waits for the store, and the thread with it.
  std::atomic<uint32_t> waits_for_store;
  // The inodes that stood at the request's names before it was first executed.
  std::atomic<uint32_t> names_noted;
  uint64_t source_inode;
  uint64_t target_inode;
  std::array<NodeCounts, kEffectsMax> counts;
  alignas(8) std::array<uint8_t, kKeptReplyMax> reply;
  alignas(8) std::array<uint8_t, kRequestSizeMax> request;
};

// A request that is answered later, perhaps by another thread than the one that read it.
struct ParkedRequest {
  std::atomic<uint64_t> unique;  // 0: free; kParkedClaimed while it is being filled.
  // Its answer, once what was committed is in the store; or empty: an FSYNC, to be executed again.
  uint32_t reply_size;
  alignas(8) std::array<uint8_t, 192> reply;
  fuse_in_header header;
  fuse_fsync_in body;
};
constexpr uint64_t kParkedClaimed = UINT64_MAX;

// The kernel's first request and our answer to it, which hold for all servers of the mount.
struct InitExchange {
  std::atomic<uint32_t> answered;  // The answer holds from now on; perhaps it was not sent.
  uint32_t request_size;
  std::array<uint8_t, 512> request;
  fuse_out_header header;  // Of the answer, which it is sent with.
  fuse_init_out answer;
};

struct SharedState {
  std::atomic<uint64_t> order;  // The volume's count of events, which the flusher reads.
  uint64_t format;
  std::atomic<uint64_t> servers;  // How many have begun to serve.
  std::atomic<uint64_t> served;   // Requests that are done; tells the keeper that it goes on.
  std::atomic<uint64_t> replayed;
  std::atomic<uint64_t> next_serial;  // Of node ids.
  std::atomic<uint64_t> nodes_used;   // No record from this index on was ever used.
  InitExchange init;
  TouchedFiles::Table touched;
  Pause::State pause;
  std::array<ParkedRequest, kParkedMax> parked;
  std::array<RequestSlot, kSlotsMax> slots;
  std::array<NodeRecord, kNodesMax> nodes;
};

// A memfd of the right size, in which all is zero but the format.
Result<FileDescriptor> make_shared_state();
// Maps it for the rest of the process's life. kUnsupported if it has another format.
Result<SharedState*> map_shared_state(int fd);

}  // namespace walfs
