// volume.json and epochs: who may write to a replica (FORMAT.md, "Epochs").
//
// A writer claims the next epoch by creating epochs/<n>.json, which only one writer can do. All its
// positions carry the epoch. A later epoch names the position on which it builds (parent); what an
// earlier writer still adds behind that position is not part of the history any more.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "replicator/base/result.h"
#include "replicator/position.h"
#include "replicator/stores/store.h"

namespace walfs {

inline constexpr int kFormatVersion = 1;

struct Epoch {
  uint64_t number = 0;
  Position parent;  // The last position before its own; 0 if there was none.
  bool fresh =
      false;  // Does not build on the parent's state: usable from its own first snapshot on.
  // What is only known of the newest one, and of those that were read by themselves:
  std::string holder;  // For people: host name and directory.
  std::string token;   // Random: recognises a claim of one's own.
  int64_t time_ns = 0;
  // Not in the store: that of an earlier claim of one's own, of a number before this one, which was
  // sent and may arrive yet; "" if there is none.
  std::string earlier_token;
};

// Reads volume.json. kNothingThere if the URL holds no replica, kUnsupported for a newer format.
// Returns the volume's id.
Result<std::string> read_volume(Store& store);
// Creates volume.json with the id if there is none; returns the id that the replica has.
Result<std::string> create_volume(Store& store, const std::string& id);

// How well a claim keeps other writers away.
enum class Fencing {
  kUnclaimed,       // There is no claim yet: the store could not be reached.
  kConditionalPut,  // The store gives an epoch to one writer only.
  kIgnored,         // The store ignores the condition of a put: two writers may hold one epoch.
  kRefused,         // The store has no conditional put: a claim looks before it puts, no more.
};
// For people and programs: "conditional-put", or "none: " or "unknown: " and the reason.
std::string describe(Fencing fencing);

// All epochs, ascending. A listing and one read: each claim tells of those before it, too.
Result<std::vector<Epoch>> read_epochs(Store& store);
// The newest one, or nothing. Cheap: a listing and one read.
Result<std::optional<Epoch>> read_newest_epoch(Store& store);
// Claims the epoch, and those that are missing between the newest one and it: a writer that was
// replaced looks for the number after its own. May be repeated after a failure. kConflict, with who
// holds the replica, if another token has this epoch or a later one; where an earlier claim of
// one's own may arrive, also if another token has the epoch before it. Finds out, and warns of it,
// when the store cannot keep two writers apart.
Result<Fencing> claim_epoch(Store& store, const Epoch& epoch);
// The kConflict for who may not write: who does, since when, and how to take over.
Error held_by(const Store& store, const Epoch& holder);

std::string random_token();  // 32 hex digits.

}  // namespace walfs
