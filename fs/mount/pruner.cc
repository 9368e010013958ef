#include "fs/mount/pruner.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace walfs {
namespace {

using std::chrono::milliseconds;

constexpr size_t kPerMessage = 512;
constexpr uint64_t kMostAtOnce = 8192;
constexpr milliseconds kForgetWait(20);
constexpr milliseconds kPauseInVain(100);
constexpr int kNoticedAfter = 10;

// In <linux/fuse.h> since Linux 6.18, protocol 7.45.
constexpr int kNotifyPrune = 9;
constexpr uint32_t kPruneMinor = 45;
struct PruneHeader {
  uint32_t count;
  uint32_t padding;
  uint64_t spare;
};

bool can_prune(const InitExchange& init) {
  fuse_init_in offered = {};
  std::memcpy(&offered, init.request.data() + sizeof(fuse_in_header), sizeof offered);
  return offered.major == FUSE_KERNEL_VERSION && offered.minor >= kPruneMinor;
}

// False if the kernel does not do it: ENOENT says that it knows no such name or inode any more.
bool notify(int device_fd, int code, std::span<const iovec> parts) {
  fuse_out_header header = {sizeof header, code, 0};
  std::vector<iovec> all = {{&header, sizeof header}};
  for (const iovec& part : parts) {
    header.len += static_cast<uint32_t>(part.iov_len);
    all.push_back(part);
  }
  return ::writev(device_fd, all.data(), static_cast<int>(all.size())) >= 0;
}

template <typename T>
iovec part_of(T* data, size_t size) {
  return {const_cast<void*>(static_cast<const void*>(data)), size};
}

}  // namespace

Pruner::Pruner(int device_fd, const NodeTable& nodes, NodeRecords& records,
               const InitExchange& init)
    : device_fd_(device_fd), nodes_(nodes), records_(records), kernel_prunes_(can_prune(init)) {
  thread_ = std::thread([this] { run(); });
  records_.when_crowded([this] {
    const std::scoped_lock lock(mutex_);
    crowded_ = true;
    changed_.notify_one();
  });
}

Pruner::~Pruner() {
  records_.when_crowded({});
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    changed_.notify_one();
  }
  thread_.join();
}

void Pruner::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return crowded_ || ending_; });
    if (ending_) return;
    crowded_ = false;
    lock.unlock();
    const uint64_t before = records_.used();
    const bool forgotten = ask_for_room() && wait_until_below(before);
    tell_if_full(!forgotten);
    lock.lock();
    if (!forgotten) changed_.wait_for(lock, kPauseInVain, [this] { return ending_; });
  }
}

// Who needs room waits for a second (NodeTable::acquire): what ends before nobody notices.
void Pruner::tell_if_full(bool in_vain) {
  const bool full = in_vain && records_.used() >= records_.limit();
  full_in_vain_ = full ? full_in_vain_ + 1 : 0;
  if (full_in_vain_ >= kNoticedAfter && !std::exchange(told_, true)) {
    spdlog::error(
        "the kernel knows {} files and directories, does not forget any, and the limit of open "
        "files allows no more: applications get ENFILE",
        records_.used());
  }
  if (records_.used() < records_.limit() / 2) told_ = false;
}

// The kernel answers with FORGET requests, which others serve.
bool Pruner::wait_until_below(uint64_t used) const {
  for (milliseconds waited(0); waited < kForgetWait; ++waited) {
    if (records_.used() < used) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

// Goes on with the records where the last call has ended. False if nothing was asked for.
bool Pruner::ask_for_room() {
  const uint64_t excess = records_.excess();
  const uint64_t wanted = std::min<uint64_t>(excess, kMostAtOnce);
  uint64_t asked_for = 0;
  for (uint64_t looked_at = 0; asked_for < wanted && looked_at < records_.used();) {
    const NodeRecords::IdleNodes idle =
        records_.idle_from(hand_, std::min<size_t>(kPerMessage, wanted - asked_for));
    if (idle.looked_at == 0) break;
    looked_at += idle.looked_at;
    hand_ = idle.next;
    if (kernel_prunes_) {
      if (!idle.ids.empty() && ask_to_prune(idle.ids)) asked_for += idle.ids.size();
    } else {
      for (const NodeId id : idle.ids) asked_for += ask_to_forget_name(id) ? 1 : 0;
    }
  }
  return asked_for != 0;
}

bool Pruner::ask_to_prune(const std::vector<NodeId>& idle) const {
  const PruneHeader header = {static_cast<uint32_t>(idle.size()), 0, 0};
  const iovec parts[] = {part_of(&header, sizeof header),
                         part_of(idle.data(), idle.size() * sizeof idle[0])};
  return notify(device_fd_, kNotifyPrune, parts);
}

// The name is the one that the backing directory has now: a rename may have come after the lookup.
// Not for directories: what is mounted there would go, too.
bool Pruner::ask_to_forget_name(NodeId id) const {
  const NodePtr node = nodes_.get(id);
  if (node == nullptr || node->type() == S_IFDIR) return false;
  const std::filesystem::path path = path_of_descriptor(node->path_fd());
  struct stat parent_attributes = {};
  if (::lstat(path.parent_path().c_str(), &parent_attributes) != 0) return false;
  const NodePtr parent = nodes_.find(parent_attributes.st_dev, parent_attributes.st_ino);
  if (parent == nullptr) return false;
  const std::string name = path.filename();
  fuse_notify_inval_entry_out entry = {};
  entry.parent = parent->id();
  entry.namelen = static_cast<uint32_t>(name.size());
  const iovec parts[] = {part_of(&entry, sizeof entry), part_of(name.c_str(), name.size() + 1)};
  return notify(device_fd_, FUSE_NOTIFY_INVAL_ENTRY, parts);
}

}  // namespace walfs
