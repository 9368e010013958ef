#include "fs/mount/heads.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

namespace walfs {
namespace {

constexpr int kLooksMax = 2000;
constexpr size_t kHeadsPerMessage = 400;

bool same_head(const WalIndexHeader& a, const WalIndexHeader& b) {
  return a.last_frame == b.last_frame && a.salts == b.salts && a.change_counter == b.change_counter;
}

}  // namespace

void HeadReader::watch(uint64_t id, const std::string& database_path) {
  Watched watched;
  watched.path = database_path + "-shm";
  watched_[id] = std::move(watched);
}

bool HeadReader::read_all() {
  bool moved = false;
  for (auto& [id, watched] : watched_) {
    if (!watched.file.valid()) {
      watched.file.reset(openat(root_, watched.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      if (!watched.file.valid()) continue;
    }
    std::array<uint8_t, kWalIndexHeaderSize> raw{};
    const ssize_t size = pread(watched.file.get(), raw.data(), raw.size(), 0);
    const auto head =
        parse_wal_index_header(ByteView(raw).first(size > 0 ? static_cast<size_t>(size) : 0));
    // In the middle of a commit the two copies differ: the old head still counts, and a second look
    // follows.
    if (!head) {
      moved = moved || watched.known;
      continue;
    }
    moved = moved || !watched.known || !same_head(*head, watched.head);
    watched.head = *head;
    watched.known = true;
  }
  return moved;
}

std::vector<nlohmann::json> HeadReader::read_instant() {
  uint64_t order = order_;
  read_all();
  for (int look = 0; look < kLooksMax; ++look) {
    const bool moved = read_all();
    const uint64_t after = order_;
    if (!moved && after == order) break;
    order = after;
  }
  std::vector<nlohmann::json> messages;
  auto heads = nlohmann::json::array();
  for (auto& [id, watched] : watched_) {
    if (!watched.known || same_head(watched.head, watched.told)) continue;
    watched.told = watched.head;
    heads.push_back(
        {id, watched.head.salts.salt1, watched.head.salts.salt2, watched.head.last_frame});
    if (heads.size() == kHeadsPerMessage) {
      messages.push_back({{"order", order},
                          {"heads", std::exchange(heads, nlohmann::json::array())},
                          {"more", true}});
    }
  }
  messages.push_back({{"order", order}, {"heads", std::move(heads)}, {"more", false}});
  return messages;
}

}  // namespace walfs
