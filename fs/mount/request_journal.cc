#include "fs/mount/request_journal.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace walfs {
namespace {

// How far from its home an FSYNC is looked for.
constexpr size_t kProbes = 32;

fuse_in_header header_of(const RequestSlot& slot) {
  fuse_in_header header;
  std::memcpy(&header, slot.request.data(), sizeof header);
  return header;
}

}  // namespace

void RequestJournal::expect(RequestSlot& slot) {
  const fuse_in_header nothing = {};
  std::memcpy(slot.request.data(), &nothing, sizeof nothing);
  slot.names_noted = 0;
  slot.waits_for_store = 0;
  slot.attempts = 0;
  slot.counts_size = 0;
  slot.forgets_done = 0;
  slot.forgets_next = 0;
  slot.reply_size = 0;
  slot.state.store(SlotState::kReading, std::memory_order_release);
}

size_t RequestJournal::size_of_left(const RequestSlot& slot) {
  const fuse_in_header header = header_of(slot);
  const bool left = slot.state == SlotState::kReading && header.unique != 0 &&
                    header.len >= sizeof header && header.len <= kRequestSizeMax;
  return left ? header.len : 0;
}

void RequestJournal::done(RequestSlot& slot, std::vector<NodeEffect>& effects) {
  if (effects.empty()) {
    slot.state.store(SlotState::kFree, std::memory_order_release);
  } else {
    records_.settle(slot, effects, SlotState::kFree);
  }
}

ParkedRequest* RequestJournal::claim(uint64_t unique) {
  for (size_t i = 0; i < kProbes; ++i) {
    ParkedRequest& place = state_.parked[(unique / 2 + i) % kParkedMax];
    uint64_t free = 0;
    if (place.unique.compare_exchange_strong(free, kParkedClaimed)) return &place;
  }
  return nullptr;
}

ParkedRequest* RequestJournal::find(uint64_t unique) {
  for (size_t i = 0; i < kProbes; ++i) {
    ParkedRequest& place = state_.parked[(unique / 2 + i) % kParkedMax];
    if (place.unique == unique) return &place;
  }
  return nullptr;
}

bool RequestJournal::park(const fuse_in_header& header, const fuse_fsync_in& body) {
  ParkedRequest* const place = claim(header.unique);
  if (place == nullptr) return false;
  place->reply_size = 0;
  place->header = header;
  place->body = body;
  place->unique.store(header.unique, std::memory_order_release);
  return true;
}

bool RequestJournal::park_reply(const fuse_in_header& header, const iovec* parts, int count) {
  ParkedRequest* const place = claim(header.unique);
  if (place == nullptr) return false;
  uint32_t size = 0;
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len > place->reply.size() - size) {
      place->unique = 0;
      return false;
    }
    std::memcpy(place->reply.data() + size, parts[i].iov_base, parts[i].iov_len);
    size += static_cast<uint32_t>(parts[i].iov_len);
  }
  place->reply_size = size;
  place->unique.store(header.unique, std::memory_order_release);
  return true;
}

void RequestJournal::unpark(uint64_t unique) {
  if (ParkedRequest* const place = find(unique)) place->unique.store(0, std::memory_order_release);
}

void RequestJournal::free_claimed() {
  for (ParkedRequest& place : state_.parked)
    if (place.unique == kParkedClaimed) place.unique = 0;
}

size_t RequestJournal::take_parked(RequestSlot& slot) {
  for (ParkedRequest& place : state_.parked) {
    if (place.unique == 0 || place.unique == kParkedClaimed || place.reply_size != 0) continue;
    std::memcpy(slot.request.data() + sizeof place.header, &place.body, sizeof place.body);
    std::memcpy(slot.request.data(), &place.header, sizeof place.header);
    slot.state.store(SlotState::kReading, std::memory_order_release);
    place.unique.store(0, std::memory_order_release);
    return sizeof place.header + sizeof place.body;
  }
  return 0;
}

void RequestJournal::send_parked(int device, uint64_t unique) {
  const auto send = [this, device, unique](int error) {
    ParkedRequest* const place = find(unique);
    if (place == nullptr) return;
    const fuse_out_header failed = {sizeof failed, -error, unique};
    // ENOENT: the kernel has heard it, or nobody waits for it any more.
    const ssize_t sent = error != 0 ? ::write(device, &failed, sizeof failed)
                                    : ::write(device, place->reply.data(), place->reply_size);
    if (sent < 0 && errno != ENOENT)
      spdlog::error("cannot answer a request that has waited: {}", std::strerror(errno));
    place->unique.store(0, std::memory_order_release);
  };
  if (gate_ != nullptr) {
    gate_->wait(send);
  } else {
    send(0);
  }
}

bool RequestJournal::any_parked() const {
  return std::any_of(state_.parked.begin(), state_.parked.end(),
                     [](const ParkedRequest& place) { return place.unique != 0; });
}

bool RequestJournal::any_in_progress(const SharedState& state) {
  const auto executes = [](const RequestSlot& slot) {
    return slot.state != SlotState::kFree && header_of(slot).unique != 0 &&
           slot.waits_for_store == 0;
  };
  const auto syncs = [](const ParkedRequest& place) {
    return place.unique != 0 && place.reply_size == 0;
  };
  return std::any_of(state.slots.begin(), state.slots.end(), executes) ||
         std::any_of(state.parked.begin(), state.parked.end(), syncs);
}

bool RequestJournal::any_waits_for_store(const SharedState& state) {
  return std::any_of(state.slots.begin(), state.slots.end(),
                     [](const RequestSlot& slot) { return slot.waits_for_store != 0; });
}

void RequestJournal::send_all_parked(int device) {
  for (const ParkedRequest& place : state_.parked) {
    const uint64_t unique = place.unique;
    if (unique != 0 && unique != kParkedClaimed && place.reply_size != 0)
      send_parked(device, unique);
  }
}

}  // namespace walfs
