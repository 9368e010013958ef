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
  std::string holder;  // For people: host name and directory.
  std::string token;   // Random: recognises a claim of one's own.
  int64_t time_ns = 0;
};

// Reads volume.json. kNothingThere if the URL holds no replica, kUnsupported for a newer format.
// Returns the volume's id.
Result<std::string> read_volume(Store& store);
// Creates volume.json with the id if there is none; returns the id that the replica has.
Result<std::string> create_volume(Store& store, const std::string& id);

// All epochs, ascending.
Result<std::vector<Epoch>> read_epochs(Store& store);
// The newest one, or nothing. Cheap: a listing and one read.
Result<std::optional<Epoch>> read_newest_epoch(Store& store);
// kConflict, with who holds it, if the epoch is taken by another token.
Status claim_epoch(Store& store, const Epoch& epoch);

std::string random_token();  // 32 hex digits.

}  // namespace walfs
