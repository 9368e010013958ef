// The requests that are being served, kept so that each is executed once, whenever the server dies.
//
// A thread reads each request into its slot of the shared state. What the slot's state says is
// enough for the next server: kReading, execute it (again): whatever the kernel sends can be done
// twice, or it is found out that it was done (`names_before`); kReplying, send the kept reply and
// do not execute: since the first reply other requests may have changed the same things.
//
// Replies that neither change anything nor count lookups or handles are not kept: such a request is
// simply executed again. The kernel ignores a second reply to the same request.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <optional>

#include "fs/mount/node_records.h"
#include "fs/mount/reply_gate.h"
#include "fs/mount/shared_state.h"

namespace walfs {

class RequestJournal {
 public:
  // gate: where answers wait for the store; null if none does. Must outlive the journal.
  RequestJournal(SharedState& state, NodeRecords& records, ReplyGate* gate = nullptr)
      : state_(state), records_(records), gate_(gate) {}

  SharedState& state() { return state_; }
  NodeRecords& records() { return records_; }
  ReplyGate* gate() const { return gate_; }

  // Makes the slot ready for the next request: to be read into slot.request.
  static void expect(RequestSlot& slot);
  // The size of the request that a server which died has left in the slot to be executed; or 0.
  static size_t size_of_left(const RequestSlot& slot);
  void done(RequestSlot& slot, std::vector<NodeEffect>& effects);

  // Keeps an FSYNC, or the answer to a request, beside the slots until unpark(). False: there is no
  // room for it.
  bool park(const fuse_in_header& header, const fuse_fsync_in& body);
  bool park_reply(const fuse_in_header& header, const iovec* parts, int count);
  void unpark(uint64_t unique);
  // Before any thread serves: what a server was about to park when it died is still in its slot.
  void free_claimed();
  // Moves one of the FSYNCs that a server which died has left into the slot; its size, or 0 if
  // there is none.
  size_t take_parked(RequestSlot& slot);
  // Sends an answer that was parked, through the gate if there is one.
  void send_parked(int device, uint64_t unique);
  void send_all_parked(int device);
  bool any_parked() const;

  // Whether a server has read a request that it has not answered, for whoever watches it. One whose
  // answer waits for the store is not meant.
  static bool any_in_progress(const SharedState& state);
  // Whether a thread of it waits for the store instead of serving requests.
  static bool any_waits_for_store(const SharedState& state);

 private:
  ParkedRequest* claim(uint64_t unique);
  ParkedRequest* find(uint64_t unique);

  SharedState& state_;
  NodeRecords& records_;
  ReplyGate* const gate_;
};

}  // namespace walfs
