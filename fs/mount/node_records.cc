#include "fs/mount/node_records.h"

#include <algorithm>

#include "fs/mount/kept_descriptors.h"

namespace walfs {
namespace {

constexpr uint64_t kLookedAtOnce = 4096;  // Requests wait for the lock meanwhile.

// Sorted, one for each node.
void merge(std::vector<NodeEffect>& effects) {
  std::sort(effects.begin(), effects.end(),
            [](const NodeEffect& a, const NodeEffect& b) { return a.id < b.id; });
  size_t last = 0;
  for (size_t i = 1; i < effects.size(); ++i) {
    if (effects[i].id != effects[last].id) {
      effects[++last] = effects[i];
      continue;
    }
    effects[last].lookups += effects[i].lookups;
    effects[last].handles += effects[i].handles;
    effects[last].writers += effects[i].writers;
  }
  if (!effects.empty()) effects.resize(last + 1);
}

template <typename Count, typename Change>
Count changed(Count count, Change change) {
  return change < 0 && count < static_cast<Count>(-change) ? 0 : count + static_cast<Count>(change);
}

}  // namespace

NodeRecords::NodeRecords(SharedState& state, int descriptors)
    : state_(state), descriptors_(descriptors) {
  for (RequestSlot& slot : state_.slots) {
    if (slot.state != SlotState::kCounting) continue;
    store(state_, slot);
    slot.forgets_done = slot.forgets_next;
    slot.state = slot.next;
  }
  // From the end, so that low indices are given first: each is a descriptor's number.
  for (uint64_t left = state_.nodes_used; left > 0; --left) {
    const auto index = static_cast<uint32_t>(left - 1);
    NodeRecord& record = state_.nodes[index];
    if (record.id != 0 && record.lookups == 0) {
      record.id = 0;
      drop_descriptor(descriptors_, index);
    }
    if (record.id == 0) free_.push_back(index);
  }
  used_ = state_.nodes_used - free_.size();
}

// An inode needs a second descriptor while it is open, and one more while it is captured.
void NodeRecords::set_descriptor_limit(uint64_t descriptors) {
  constexpr uint64_t kLeast = 256;
  const uint64_t base = kKeptDescriptorBase;
  const uint64_t room = descriptors > base ? descriptors - base : 0;
  limit_ = std::clamp<uint64_t>(room / 4 * 3, kLeast, kNodesMax);
  descriptors_max_ = base + room / 8 * 7;
}

int64_t NodeRecords::brake_ms() const {
  constexpr uint64_t kMostMs = 20;
  const uint64_t last_part =
      (descriptors_max_ - std::min<uint64_t>(descriptors_max_, kKeptDescriptorBase)) / 4;
  const uint64_t begin = descriptors_max_ - last_part;
  const auto owned = static_cast<uint64_t>(std::max<int64_t>(0, FileDescriptor::owned()));
  if (owned <= begin || last_part == 0) return 0;
  return static_cast<int64_t>(std::min(kMostMs, (owned - begin) * kMostMs / last_part + 1));
}

uint64_t NodeRecords::excess() const {
  const uint64_t wanted = limit_ / 8 * 5;
  const uint64_t used = used_;
  return used > wanted ? used - wanted : 0;
}

void NodeRecords::when_crowded(std::function<void()> tell) {
  const std::scoped_lock lock(free_mutex_);
  tell_crowded_ = std::move(tell);
}

NodeId NodeRecords::add(int path_fd, uint64_t device, uint64_t inode) {
  uint32_t index = 0;
  uint64_t serial = 0;
  {
    const std::scoped_lock lock(free_mutex_);
    if (used_ > limit_ / 4 * 3 && tell_crowded_) tell_crowded_();
    const auto owned = static_cast<uint64_t>(std::max<int64_t>(0, FileDescriptor::owned()));
    if (used_ >= limit_ || owned >= descriptors_max_) return 0;
    ++used_;
    serial = state_.next_serial.fetch_add(1) + 1;
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      index = static_cast<uint32_t>(state_.nodes_used.fetch_add(1));
    }
  }
  const NodeId id = serial * kNodesMax + index;
  NodeRecord& record = state_.nodes[index];
  record.device = device;
  record.inode = inode;
  record.lookups = 0;
  record.handles = 0;
  record.writers = 0;
  keep_descriptor(descriptors_, index, path_fd);
  record.id.store(id, std::memory_order_release);
  return id;
}

void NodeRecords::remove(NodeId id) {
  {
    const std::scoped_lock lock(counts_mutex_);
    if (record_of(id).id != id) return;
    record_of(id).id.store(0, std::memory_order_release);
  }
  drop_descriptor(descriptors_, index_of(id));
  const std::scoped_lock lock(free_mutex_);
  free_.push_back(index_of(id));
  --used_;
}

// A node that is added or removed meanwhile has no lookups, or is removed under the same lock.
NodeRecords::IdleNodes NodeRecords::idle_from(uint32_t first, size_t most) {
  IdleNodes idle;
  const uint64_t records = state_.nodes_used;
  if (records == 0) return idle;
  idle.next = static_cast<uint32_t>(first % records);
  const uint64_t end = std::min<uint64_t>(records, kLookedAtOnce);
  const std::scoped_lock lock(counts_mutex_);
  for (; idle.looked_at < end && idle.ids.size() < most; ++idle.looked_at) {
    const NodeRecord& record = state_.nodes[idle.next];
    if (record.id != 0 && record.lookups != 0 && record.handles == 0) idle.ids.push_back(record.id);
    idle.next = static_cast<uint32_t>((idle.next + 1) % records);
  }
  return idle;
}

void NodeRecords::store(SharedState& state, const RequestSlot& slot) {
  for (uint32_t i = 0; i < slot.counts_size; ++i) {
    const NodeCounts& counts = slot.counts[i];
    NodeRecord& record = state.nodes[index_of(counts.id)];
    if (record.id != counts.id) continue;
    record.lookups = counts.lookups;
    record.handles = counts.handles;
    record.writers = counts.writers;
  }
}

// The lock is held from the first look to the last store: what is in the slot stays true until it
// is stored, also by the next server.
void NodeRecords::settle(RequestSlot& slot, std::vector<NodeEffect>& effects, SlotState next) {
  merge(effects);
  const std::scoped_lock lock(counts_mutex_);
  slot.counts_size = 0;
  for (const NodeEffect& effect : effects) {
    const NodeRecord& record = record_of(effect.id);
    if (record.id != effect.id || slot.counts_size == kEffectsMax) continue;
    slot.counts[slot.counts_size++] = {effect.id, changed(record.lookups, effect.lookups),
                                       changed(record.handles, effect.handles),
                                       changed(record.writers, effect.writers)};
  }
  effects.clear();
  if (slot.counts_size != 0) {
    slot.next = next;
    slot.state.store(SlotState::kCounting, std::memory_order_release);
    store(state_, slot);
  }
  slot.forgets_done = slot.forgets_next;
  slot.state.store(next, std::memory_order_release);
}

std::vector<const NodeRecord*> NodeRecords::left() const {
  std::vector<const NodeRecord*> records;
  for (uint64_t index = 0; index < state_.nodes_used; ++index) {
    if (state_.nodes[index].id != 0) records.push_back(&state_.nodes[index]);
  }
  return records;
}

}  // namespace walfs
