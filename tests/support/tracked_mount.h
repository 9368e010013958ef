// What applications and the kernel do to a mount, without either: requests by path to the real
// operations of the mount, which tell the observer as ever. One thread.
//
// With the page cache on, writes wait as the kernel's writeback would have them wait: whole pages
// of 4 KiB, sent in any order when somebody asks, at the latest at fsync and close.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fs/mount/kept_descriptors.h"
#include "fs/mount/operations.h"
#include "tests/support/test_records.h"
#include "tests/support/unsynced_writes.h"

namespace walfs::test {

class TrackedMount {
 public:
  static constexpr size_t kPage = 4096;

  TrackedMount(int root_fd, FileObserver& observer, bool page_cache, uint32_t seed)
      : page_cache_(page_cache), random_(seed) {
    attach_server(root_fd, observer);
  }

  Operations& operations() { return *operations_; }

  // The server dies between two requests. The kernel goes on: it knows the names and the open
  // files, and has its dirty pages; the next server finds the nodes in the records.
  void lose_server() {
    std::map<int, FileDescriptor> kept;  // The keeper's; the server closes its own.
    for (const auto& [node, lookups] : lookups_) {
      const uint32_t index = NodeRecords::index_of(node);
      NodeRecord& record = records_.state().nodes[index];
      const auto file = open_.find(node);
      record.lookups = lookups;
      record.handles = record.writers =
          file != open_.end() ? static_cast<uint32_t>(file->second.handles) : 0;
      kept[kKeptDescriptorBase + static_cast<int>(index)].reset(
          ::fcntl(operations_->nodes().get(node)->path_fd(), F_DUPFD_CLOEXEC, 0));
    }
    operations_.reset();
    for (const auto& [number, fd] : kept) EXPECT_EQ(::dup2(fd.get(), number), number);
  }
  void attach_server(int root_fd, FileObserver& observer) {
    server_records_ = std::make_unique<NodeRecords>(records_.state(), -1);
    operations_ = std::make_unique<Operations>(root_fd, observer, *server_records_);
  }

  // The node of a path, 0 if there is none.
  NodeId find(const std::string& path) {
    NodeId node = kRootNode;
    for (size_t begin = 0; begin < path.size();) {
      const size_t end = std::min(path.find('/', begin), path.size());
      node = lookup(node, path.substr(begin, end - begin));
      if (node == 0) return 0;
      begin = end + 1;
    }
    return node;
  }
  bool exists(const std::string& path) { return find(path) != 0; }

  // Opens for reading and writing, makes the file if need be.
  NodeId open(const std::string& path) {
    NodeId node = find(path);
    if (node == 0) {
      const auto [parent, name] = split(path);
      Entry entry;
      EXPECT_EQ(operations_->create(caller_, parent, name.c_str(), 0644, O_RDWR, entry), 0) << path;
      node = note(entry);
      unsynced_.synced(entry.attributes.st_ino);
    } else {
      EXPECT_EQ(operations_->open(node, O_RDWR, false), 0) << path;
    }
    Open& file = open_[node];
    if (file.handles++ == 0) file.size = backing_size(node);
    return node;
  }
  void close(NodeId node) {
    write_back(node);
    // The kernel keeps the time of a write to itself until then.
    if (std::exchange(open_.at(node).written, false))
      change(node, {.valid = AttributeChange::kMtimeNow});
    operations_->release(node, O_RDWR);
    if (--open_.at(node).handles == 0) open_.erase(node);
    forget_if_gone(node);
  }

  void write(NodeId node, uint64_t offset, ByteView data) {
    open_.at(node).written = true;
    if (!page_cache_) {
      send(node, offset, data);
      return;
    }
    Open& file = open_.at(node);
    for (uint64_t at = 0; at < data.size();) {
      const uint64_t page = (offset + at) / kPage;
      const uint64_t within = (offset + at) % kPage;
      const uint64_t size = std::min<uint64_t>(kPage - within, data.size() - at);
      auto [cached, added] = file.dirty.try_emplace(page);
      if (added) cached->second = read_backing(node, page * kPage, kPage);
      cached->second.resize(kPage);
      std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), size,
                  cached->second.begin() + static_cast<std::ptrdiff_t>(within));
      at += size;
    }
    file.size = std::max(file.size, offset + data.size());
  }
  void write(NodeId node, uint64_t offset, const std::string& text) {
    write(node, offset, ByteView(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }
  // What the application reads: at most `size` bytes.
  Bytes read(NodeId node, uint64_t offset, size_t size) {
    const uint64_t end = std::min<uint64_t>(offset + size, this->size(node));
    if (end <= offset) return {};
    Bytes bytes = read_backing(node, offset, end - offset);
    bytes.resize(end - offset);
    const auto file = open_.find(node);
    if (file == open_.end()) return bytes;
    for (const auto& [page, cached] : file->second.dirty) {
      const uint64_t begin = std::max(offset, page * kPage);
      const uint64_t stop = std::min(end, (page + 1) * kPage);
      if (begin >= stop) continue;
      std::copy_n(cached.begin() + static_cast<std::ptrdiff_t>(begin - page * kPage), stop - begin,
                  bytes.begin() + static_cast<std::ptrdiff_t>(begin - offset));
    }
    return bytes;
  }
  uint64_t size(NodeId node) {
    const auto file = open_.find(node);
    const uint64_t backing = backing_size(node);
    return file == open_.end() || file->second.dirty.empty() ? backing
                                                             : std::max(backing, file->second.size);
  }
  void truncate(NodeId node, uint64_t size) {
    const auto file = open_.find(node);
    if (file != open_.end()) {
      file->second.size = size;
      auto& dirty = file->second.dirty;
      dirty.erase(dirty.lower_bound((size + kPage - 1) / kPage), dirty.end());
      const auto last = dirty.find(size / kPage);
      if (last != dirty.end())
        std::fill(last->second.begin() + static_cast<std::ptrdiff_t>(size % kPage),
                  last->second.end(), uint8_t{0});
    }
    change(node, {.valid = AttributeChange::kSize, .size = size});
    unsynced_.truncated(inode(node), size);
  }
  void sync(NodeId node) {
    write_back(node);
    const auto work =
        operations_->sync(caller_, node, true, [](int error) { EXPECT_EQ(error, 0); });
    if (work) work();
    unsynced_.synced(inode(node));
  }
  // Sends the dirty pages of one file, of all, or some of any.
  void write_back(NodeId node) {
    const auto file = open_.find(node);
    if (file == open_.end()) return;
    std::vector<uint64_t> pages;
    for (const auto& [page, bytes] : file->second.dirty) pages.push_back(page);
    std::shuffle(pages.begin(), pages.end(), random_);
    for (const uint64_t page : pages) write_back_page(node, page);
  }
  void write_back_all() {
    std::vector<NodeId> nodes;
    for (const auto& [node, file] : open_) nodes.push_back(node);
    std::shuffle(nodes.begin(), nodes.end(), random_);
    for (const NodeId node : nodes) write_back(node);
  }
  void write_back_some() {
    std::vector<std::pair<NodeId, uint64_t>> pages;
    for (const auto& [node, file] : open_)
      for (const auto& [page, bytes] : file.dirty)
        if (random_() % 3 == 0) pages.emplace_back(node, page);
    std::shuffle(pages.begin(), pages.end(), random_);
    for (const auto& [node, page] : pages) write_back_page(node, page);
  }

  // Whole files, as an application without habits writes them.
  void put(const std::string& path, const std::string& content) {
    const NodeId node = open(path);
    truncate(node, 0);
    write(node, 0, content);
    close(node);
  }
  void append(const std::string& path, const std::string& content) {
    const NodeId node = open(path);
    write(node, size(node), content);
    close(node);
  }
  std::string content(const std::string& path) {
    const NodeId node = find(path);
    if (node == 0) return "";
    const Bytes bytes = read(node, 0, size(node));
    return std::string(as_text(bytes));
  }

  void unlink(const std::string& path, bool directory = false) {
    const auto [parent, name] = split(path);
    const NodeId node = find(path);
    EXPECT_EQ(operations_->unlink(parent, name.c_str(), directory), 0) << path;
    forget_if_gone(node);
  }
  void rename(const std::string& from, const std::string& to, unsigned flags = 0) {
    const auto [parent, name] = split(from);
    const auto [new_parent, new_name] = split(to);
    // The kernel has looked both up.
    find(from);
    const NodeId replaced = find(to);
    EXPECT_EQ(operations_->rename(parent, name.c_str(), new_parent, new_name.c_str(), flags), 0)
        << from << " to " << to;
    forget_if_gone(replaced);
  }
  void link(const std::string& from, const std::string& to) {
    const auto [parent, name] = split(to);
    Entry entry;
    EXPECT_EQ(operations_->make_link(find(from), parent, name.c_str(), entry), 0) << to;
    note(entry);
  }
  void make_directory(const std::string& path) {
    const auto [parent, name] = split(path);
    Entry entry;
    EXPECT_EQ(operations_->make_directory(caller_, parent, name.c_str(), 0755, entry), 0) << path;
    note(entry);
  }
  void make_symlink(const std::string& target, const std::string& path) {
    const auto [parent, name] = split(path);
    Entry entry;
    EXPECT_EQ(operations_->make_symlink(caller_, target.c_str(), parent, name.c_str(), entry), 0);
    note(entry);
  }
  void change(NodeId node, const AttributeChange& change) {
    struct stat after {};
    EXPECT_EQ(operations_->set_attributes(node, change, after), 0);
  }

  // What a power cut could take.
  UnsyncedWrites& unsynced() { return unsynced_; }

  // The kernel forgets what nobody has open, as it does when memory is short.
  void drop_caches() {
    for (auto known = lookups_.begin(); known != lookups_.end();) {
      if (open_.contains(known->first)) {
        ++known;
        continue;
      }
      operations_->forget(known->first, known->second);
      known = lookups_.erase(known);
    }
  }

 private:
  struct Open {
    int handles = 0;
    bool written = false;  // Since the last close.
    uint64_t size = 0;     // As the application sees it, while there are dirty pages.
    std::map<uint64_t, Bytes> dirty;
  };

  // The kernel forgets an inode without a name once nobody has it open.
  void forget_if_gone(NodeId node) {
    const auto known = lookups_.find(node);
    struct stat attributes {};
    if (known == lookups_.end() || open_.contains(node) ||
        operations_->get_attributes(node, attributes) != 0)
      return;
    if (attributes.st_nlink != 0) return;
    operations_->forget(node, known->second);
    lookups_.erase(known);
  }
  NodeId note(const Entry& entry) {
    ++lookups_[entry.node];
    return entry.node;
  }
  NodeId lookup(NodeId parent, const std::string& name) {
    Entry entry;
    return operations_->lookup(parent, name.c_str(), entry) == 0 ? note(entry) : 0;
  }
  std::pair<NodeId, std::string> split(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {kRootNode, path};
    return {find(path.substr(0, slash)), path.substr(slash + 1)};
  }
  struct stat attributes_of(NodeId node) {
    struct stat attributes {};
    EXPECT_EQ(operations_->get_attributes(node, attributes), 0);
    return attributes;
  }
  uint64_t backing_size(NodeId node) { return static_cast<uint64_t>(attributes_of(node).st_size); }
  uint64_t inode(NodeId node) { return attributes_of(node).st_ino; }
  Bytes read_backing(NodeId node, uint64_t offset, size_t size) {
    Bytes bytes(size);
    size_t got = 0;
    EXPECT_EQ(operations_->read(node, offset, bytes, got), 0);
    bytes.resize(got);
    return bytes;
  }
  void send(NodeId node, uint64_t offset, ByteView data) {
    size_t written = 0;
    unsynced_.note(inode(node), offset, data.size(),
                   [&](uint64_t from, size_t size) { return read_backing(node, from, size); });
    EXPECT_EQ(operations_->write(node, offset, data, false, true, written), 0);
    EXPECT_EQ(written, data.size());
  }
  void write_back_page(NodeId node, uint64_t page) {
    Open& file = open_.at(node);
    const auto cached = file.dirty.find(page);
    if (cached == file.dirty.end()) return;
    const uint64_t end = std::min(file.size, (page + 1) * kPage);
    const Bytes bytes = std::move(cached->second);
    const uint64_t size = end > page * kPage ? end - page * kPage : 0;
    if (size > 0) send(node, page * kPage, ByteView(bytes).first(size));
    file.dirty.erase(page);
  }

  TestRecords records_;
  std::unique_ptr<NodeRecords> server_records_;
  std::unique_ptr<Operations> operations_;
  const bool page_cache_;
  std::mt19937 random_;
  const Caller caller_{0, 0, 1, 022};
  std::map<NodeId, Open> open_;
  std::map<NodeId, uint64_t> lookups_;
  UnsyncedWrites unsynced_;
};

}  // namespace walfs::test
