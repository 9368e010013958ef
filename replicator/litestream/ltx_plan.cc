#include "replicator/litestream/ltx_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "replicator/litestream/names.h"
#include "replicator/time.h"

namespace walfs::litestream {
namespace {

bool reaches_further(const LtxObject& a, const LtxObject& b) {
  // Of those that reach as far, one that was merged from the others.
  return std::make_tuple(a.last, ~a.first, a.level) > std::make_tuple(b.last, ~b.first, b.level);
}

bool follows(const LtxObject& object, uint64_t last) {
  return object.first - 1 <= last;
}

// The newest snapshot, and from there file by file; `objects` are in the order of their first
// transaction.
std::vector<LtxObject> follow(const std::vector<LtxObject>& objects) {
  const LtxObject* snapshot = nullptr;
  for (const LtxObject& object : objects) {
    const bool is_one = object.level == kLtxSnapshotLevel && object.first == 1;
    if (is_one && (snapshot == nullptr || object.last > snapshot->last)) snapshot = &object;
  }
  std::vector<LtxObject> chain;
  if (snapshot != nullptr) chain.push_back(*snapshot);
  uint64_t last = snapshot != nullptr ? snapshot->last : 0;
  const LtxObject* best = nullptr;
  auto next = objects.begin();
  while (true) {
    for (; next != objects.end() && follows(*next, last); ++next) {
      if (best == nullptr || reaches_further(*next, *best)) best = &*next;
    }
    if (best == nullptr || best->last <= last) return chain;
    chain.push_back(*best);
    last = best->last;
  }
}

void sort_by_first(std::vector<LtxObject>& objects) {
  std::sort(objects.begin(), objects.end(), [](const LtxObject& a, const LtxObject& b) {
    return std::tie(a.first, a.last) < std::tie(b.first, b.last);
  });
}

}  // namespace

Result<LtxPlan> make_ltx_plan(std::vector<LtxObject> objects, std::optional<int64_t> until_ns) {
  std::vector<LtxObject> usable = objects;
  if (until_ns) {
    std::erase_if(usable,
                  [&](const LtxObject& object) { return object.object.time_ns > *until_ns; });
  }
  sort_by_first(usable);
  LtxPlan plan;
  plan.objects = follow(usable);
  if (!plan.objects.empty()) {
    plan.last = plan.objects.back().last;
    for (const LtxObject& object : plan.objects)
      plan.time_ns = std::max(plan.time_ns, object.object.time_ns);
  }
  if (!until_ns) {
    for (const LtxObject& object : usable) {
      if (object.last > plan.last) {
        return Error{Errc::kDamaged, "files before " + object.object.key +
                                         " are missing in the replica: there is "
                                         "nothing of transaction " +
                                         txid_text(plan.last + 1)};
      }
    }
  }
  if (!plan.objects.empty()) return plan;
  const auto states = until_ns ? list_ltx_states(std::move(objects)) : std::vector<PastState>();
  return Error{Errc::kNothingThere,
               until_ns ? "nothing is as old as " + format_time(*until_ns) +
                              (states.empty() ? ""
                                              : "; the oldest state is of " +
                                                    format_time(states.front().time_ns))
                        : "there is nothing to restore"};
}

// What can be reached only grows with time: each file counts once it is there and follows.
std::vector<PastState> list_ltx_states(std::vector<LtxObject> objects) {
  std::sort(objects.begin(), objects.end(), [](const LtxObject& a, const LtxObject& b) {
    return a.object.time_ns < b.object.time_ns;
  });
  std::vector<PastState> states;
  std::multimap<uint64_t, uint64_t> waiting;  // First transactions and last ones.
  uint64_t reached = 0;
  for (const LtxObject& object : objects) {
    waiting.emplace(object.first, object.last);
    const uint64_t before = reached;
    while (!waiting.empty() && waiting.begin()->first - 1 <= reached) {
      reached = std::max(reached, waiting.begin()->second);
      waiting.erase(waiting.begin());
    }
    if (reached == before) continue;
    if (!states.empty() && states.back().time_ns == object.object.time_ns) states.pop_back();
    states.push_back({txid_text(reached), object.object.time_ns});
  }
  return states;
}

}  // namespace walfs::litestream
