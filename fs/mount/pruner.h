// Makes room for inodes that applications look up. The kernel keeps what it knows of files that
// nobody uses until it needs the memory; here each of them costs a descriptor, and there are only
// so many (NodeRecords::set_limit). Before they run out, the kernel is asked to forget some: with
// FUSE_NOTIFY_PRUNE, or before Linux 6.18 with FUSE_NOTIFY_INVAL_ENTRY for one name each
// (include/uapi/linux/fuse.h). What is open, and every directory in which the kernel still knows
// something, stays.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/mount/nodes.h"

namespace walfs {

class Pruner {
 public:
  // Works in a thread of its own until it is destroyed: the kernel may have requests served before
  // it returns from being asked. All arguments must outlive it; the device is borrowed.
  Pruner(int device_fd, const NodeTable& nodes, NodeRecords& records, const InitExchange& init);
  ~Pruner();
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

 private:
  void run();
  void tell_if_full(bool in_vain);
  bool ask_for_room();
  bool wait_until_below(uint64_t used) const;
  bool ask_to_prune(const std::vector<NodeId>& idle) const;
  bool ask_to_forget_name(NodeId id) const;

  const int device_fd_;
  const NodeTable& nodes_;
  NodeRecords& records_;
  const bool kernel_prunes_;
  // Of the thread:
  uint32_t hand_ = 0;     // The record to look at next.
  int full_in_vain_ = 0;  // How often in a row.
  bool told_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool crowded_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace walfs
