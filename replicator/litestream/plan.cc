#include "replicator/litestream/plan.h"

#include <algorithm>

#include "replicator/litestream/names.h"
#include "replicator/time.h"

namespace walfs::litestream {
namespace {

// The first piece of the index or of a later one.
std::vector<Object>::const_iterator pieces_from(const Generation& generation, uint32_t index) {
  return std::lower_bound(
      generation.pieces.begin(), generation.pieces.end(), index,
      [](const Object& piece, uint32_t wanted) { return piece.index < wanted; });
}

// Litestream copies the database while it is written to: a snapshot can hold pages that are newer
// than the pieces which were there before it. Those that came after it make it one state.
enum class Use { kNever, kPerhaps, kWell };

Use use_of(const Generation& generation, const Object& snapshot, int64_t until_ns) {
  if (snapshot.time_ns > until_ns) return Use::kNever;
  const auto first = pieces_from(generation, snapshot.index);
  if (first != generation.pieces.end() && first->time_ns > until_ns) return Use::kNever;
  bool followed = false;
  for (auto piece = first; piece != generation.pieces.end(); ++piece) {
    if (piece->time_ns <= snapshot.time_ns) continue;
    if (piece->time_ns <= until_ns) return Use::kWell;
    followed = true;
  }
  return followed ? Use::kPerhaps : Use::kWell;
}

// The last that can be used well, or else the last that perhaps can; or null.
const Object* choose_snapshot(const Generation& generation, int64_t until_ns) {
  const Object* best = nullptr;
  Use best_use = Use::kNever;
  for (const Object& snapshot : generation.snapshots) {
    const Use use = use_of(generation, snapshot, until_ns);
    if (use == Use::kNever || use < best_use) continue;
    best = &snapshot;
    best_use = use;
  }
  return best;
}

// What the generation gives at the time; nothing if it had no state yet.
std::optional<Plan> plan_of(const Generation& generation, int64_t until_ns) {
  const Object* snapshot = choose_snapshot(generation, until_ns);
  if (snapshot == nullptr) return std::nullopt;
  Plan plan;
  plan.snapshot = *snapshot;
  plan.time_ns = snapshot->time_ns;
  plan.position = position_text(generation.name, snapshot->index);
  for (auto piece = pieces_from(generation, snapshot->index);
       piece != generation.pieces.end() && piece->time_ns <= until_ns; ++piece) {
    plan.pieces.push_back(*piece);
    plan.time_ns = std::max(plan.time_ns, piece->time_ns);
    plan.position = position_text(generation.name, piece->index, piece->offset);
  }
  return plan;
}

int64_t newest_time(const Generation& generation) {
  int64_t newest = INT64_MIN;
  for (const Object& object : generation.snapshots) newest = std::max(newest, object.time_ns);
  for (const Object& object : generation.pieces) newest = std::max(newest, object.time_ns);
  return newest;
}

// The names tell of a missing object only where an index or the beginning of one is missing; where
// each piece ends is known when it is read.
Status check_indexes(const Plan& plan) {
  uint32_t expected = plan.snapshot.index;
  bool begun = false;
  for (const Object& piece : plan.pieces) {
    if (begun && piece.index == expected) continue;
    if (begun) ++expected;
    if (piece.index != expected) {
      return Error{Errc::kDamaged, "the log before " + piece.key +
                                       " is missing in the replica: there is nothing of index " +
                                       position_text("", expected).substr(1)};
    }
    if (piece.offset != 0) {
      return Error{Errc::kDamaged,
                   "the beginning of the log of " + piece.key + " is missing in the replica"};
    }
    begun = true;
  }
  return {};
}

Result<Plan> newest_plan(const std::vector<Generation>& generations) {
  const auto newest = std::max_element(
      generations.begin(), generations.end(),
      [](const auto& a, const auto& b) { return newest_time(a) < newest_time(b); });
  auto plan = plan_of(*newest, INT64_MAX);
  if (plan) return *std::move(plan);
  return Error{Errc::kDamaged,
               "the newest generation, " + newest->name +
                   ", has no snapshot; restore an older state with --at, if there is one"};
}

Result<Plan> plan_at(const std::vector<Generation>& generations, int64_t until_ns) {
  std::optional<Plan> best;
  for (const Generation& generation : generations) {
    auto plan = plan_of(generation, until_ns);
    if (plan && (!best || plan->time_ns >= best->time_ns)) best = std::move(plan);
  }
  if (best) return *std::move(best);
  const auto states = list_states(generations);
  return Error{Errc::kNothingThere, "nothing is as old as " + format_time(until_ns) +
                                        (states.empty() ? ""
                                                        : "; the oldest state is of " +
                                                              format_time(states.front().time_ns))};
}

bool has_times(const Generation& generation) {
  const auto timed = [](const Object& object) { return object.time_ns != 0; };
  return std::all_of(generation.snapshots.begin(), generation.snapshots.end(), timed) &&
         std::all_of(generation.pieces.begin(), generation.pieces.end(), timed);
}

// A snapshot that no log follows is a state by itself.
void add_snapshots(const Generation& generation, std::vector<PastState>& states) {
  for (const Object& snapshot : generation.snapshots) {
    if (pieces_from(generation, snapshot.index) == generation.pieces.end())
      states.push_back({position_text(generation.name, snapshot.index), snapshot.time_ns});
  }
}

// Follows the pieces of a generation to find which of them continue a snapshot without a gap.
class Chain {
 public:
  explicit Chain(const Generation& generation)
      : generation_(generation), snapshot_(generation.snapshots.begin()) {}

  // The time at which the piece, and all that it needs, was there; nothing if something is missing.
  std::optional<int64_t> add(const Object& piece) {
    if (before_ == nullptr || piece.index != before_->index) begin_index(piece);
    before_ = &piece;
    if (reached_) reached_ = std::max(*reached_, piece.time_ns);
    return reached_;
  }

 private:
  void begin_index(const Object& piece) {
    const bool follows = before_ != nullptr && piece.index == before_->index + 1;
    if (!follows || piece.offset != 0) reached_.reset();
    for (; snapshot_ != generation_.snapshots.end() && snapshot_->index <= piece.index;
         ++snapshot_) {
      if (snapshot_->index == piece.index && piece.offset == 0)
        reached_ = std::min(reached_.value_or(INT64_MAX), snapshot_->time_ns);
    }
  }

  const Generation& generation_;
  std::vector<Object>::const_iterator snapshot_;
  const Object* before_ = nullptr;
  std::optional<int64_t> reached_;
};

// A piece that is older than the snapshot which it needs is no state that one could ask for, unless
// it is the last.
void add_pieces(const Generation& generation, std::vector<PastState>& states) {
  Chain chain(generation);
  for (const Object& piece : generation.pieces) {
    const auto time_ns = chain.add(piece);
    if (time_ns && (*time_ns == piece.time_ns || &piece == &generation.pieces.back()))
      states.push_back({position_text(generation.name, piece.index, piece.offset), *time_ns});
  }
}

}  // namespace

Result<Plan> make_plan(const std::vector<Generation>& generations,
                       std::optional<int64_t> until_ns) {
  if (generations.empty()) return Error{Errc::kNothingThere, "there is nothing to restore"};
  if (until_ns && !std::all_of(generations.begin(), generations.end(), has_times)) {
    return Error{Errc::kUnsupported,
                 "the store does not tell when its objects were written, so that only the newest "
                 "state can be restored, without --at"};
  }
  auto plan = until_ns ? plan_at(generations, *until_ns) : newest_plan(generations);
  if (plan.ok()) WALFS_TRY(check_indexes(*plan));
  return plan;
}

std::vector<PastState> list_states(const std::vector<Generation>& generations) {
  std::vector<PastState> all;
  for (const Generation& generation : generations) {
    std::vector<PastState> states;
    add_snapshots(generation, states);
    add_pieces(generation, states);
    std::stable_sort(states.begin(), states.end(),
                     [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
    for (PastState& state : states) {
      if (!all.empty() && all.back().time_ns == state.time_ns &&
          all.back().position.starts_with(generation.name))
        all.pop_back();
      all.push_back(std::move(state));
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
  return all;
}

}  // namespace walfs::litestream
