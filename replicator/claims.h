// A writer's own memory of its claims, and the claim of one that began without the store.
#pragma once

#include <set>
#include <string>

#include "replicator/base/result.h"
#include "replicator/catalog.h"
#include "replicator/epoch.h"
#include "replicator/stores/store.h"

namespace walfs {

// Notes, durably, that the store has heard of the catalog's epoch: before anything is uploaded in
// it. A catalog that a power cut has made older must not go on with an epoch that has points which
// it does not know.
Status note_claimed(Catalog& catalog, const std::string& spool);
// Whether that was noted of the epoch that the header names.
bool is_claimed(const CatalogHeader& header, const std::string& spool);
// Takes the notes away, but those of these tokens.
void forget_claims(const std::string& spool, const std::set<std::string>& tokens);

// claim_epoch() for an epoch that began on the catalog's word alone. kDamaged, and nothing is
// claimed, if the store has points behind the one that the epoch builds on: then the catalog was
// older than the store. kNothingThere if the replica was removed meanwhile. May be repeated, also
// after the claim was made.
Result<Fencing> claim_late(Store& store, const Epoch& epoch);

}  // namespace walfs
