#include "fs/mount/adapter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <vector>

#include "fs/mount/request.h"

namespace walfs {
namespace {

// A callback's result when it has already answered; else the errno to answer with (0: success).
constexpr int kAnswered = -1;

Operations& operations(fuse_req_t request) {
  return *static_cast<Operations*>(fuse_req_userdata(request));
}

Caller caller_of(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {context->uid, context->gid, context->pid, context->umask};
}

// Every callback runs in here: no exception leaves it, and every request gets an answer.
template <typename Body>
void serve(fuse_req_t request, Body&& body) noexcept {
  int result = EIO;
  try {
    result = body();
  } catch (const std::bad_alloc&) {
    result = ENOMEM;
  } catch (const std::exception& fault) {
    spdlog::error("a file operation failed in an unexpected way: {}", fault.what());
  }
  if (result != kAnswered) fuse_reply_err(request, result);
}

fuse_entry_param entry_param(const Entry& entry) {
  fuse_entry_param param = {};
  param.ino = entry.node;
  param.attr = entry.attributes;
  param.attr_timeout = kCacheForever;
  param.entry_timeout = kCacheForever;
  return param;
}

int answer_entry(fuse_req_t request, const Entry& entry) {
  fuse_entry_param param = entry_param(entry);
  Operations& served = operations(request);
  // ENOENT: the caller was interrupted and the kernel threw the answer away.
  if (fuse_reply_entry(request, &param) == -ENOENT) served.forget(entry.node, 1);
  return kAnswered;
}

// ---------------------------------------------------------------- the session

void on_init(void* served, fuse_conn_info* connection) {
  auto want = [&](unsigned capability, bool wanted) {
    if (wanted) {
      connection->want |= connection->capable & capability;
    } else {
      connection->want &= ~capability;
    }
  };
  Operations& operations = *static_cast<Operations*>(served);
  want(FUSE_CAP_WRITEBACK_CACHE, !operations.write_through());
  operations.set_kernel_keeps_times((connection->want & FUSE_CAP_WRITEBACK_CACHE) != 0);
  want(FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ, true);
  want(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO, true);
  want(FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_DONT_MASK |
           FUSE_CAP_POSIX_ACL,
       true);
  // The kernel keeps the locks; O_TRUNC arrives as SETATTR; nobody changes files behind the cache;
  // fs/mount/session.cc asks for version 2 of HANDLE_KILLPRIV.
  want(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_ATOMIC_O_TRUNC, false);
  want(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV, false);
  want(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE, false);
  connection->max_background = 64;
  connection->congestion_threshold = 48;
}

// ---------------------------------------------------------------- names

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  serve(request, [&] {
    Entry entry;
    int error = operations(request).lookup(parent, name, entry);
    // Node 0 makes the kernel remember that there is no such name.
    if (error == ENOENT) return answer_entry(request, Entry{});
    return error != 0 ? error : answer_entry(request, entry);
  });
}

void on_mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  serve(request, [&] {
    Entry entry;
    int error =
        operations(request).make_node(caller_of(request), parent, name, mode, device, entry);
    return error != 0 ? error : answer_entry(request, entry);
  });
}

void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  serve(request, [&] {
    Entry entry;
    int error = operations(request).make_directory(caller_of(request), parent, name, mode, entry);
    return error != 0 ? error : answer_entry(request, entry);
  });
}

void on_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  serve(request, [&] {
    Entry entry;
    int error = operations(request).make_symlink(caller_of(request), target, parent, name, entry);
    return error != 0 ? error : answer_entry(request, entry);
  });
}

void on_readlink(fuse_req_t request, fuse_ino_t node) {
  serve(request, [&] {
    std::string target;
    if (int error = operations(request).read_symlink(node, target)) return error;
    fuse_reply_readlink(request, target.c_str());
    return kAnswered;
  });
}

void on_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t new_parent, const char* new_name) {
  serve(request, [&] {
    Entry entry;
    int error = operations(request).make_link(node, new_parent, new_name, entry);
    return error != 0 ? error : answer_entry(request, entry);
  });
}

void on_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  serve(request, [&] { return operations(request).unlink(parent, name, false); });
}

void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  serve(request, [&] { return operations(request).unlink(parent, name, true); });
}

void on_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  serve(request,
        [&] { return operations(request).rename(parent, name, new_parent, new_name, flags); });
}

// ---------------------------------------------------------------- attributes

void on_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  serve(request, [&] {
    struct stat attributes;
    if (int error = operations(request).get_attributes(node, attributes)) return error;
    fuse_reply_attr(request, &attributes, kCacheForever);
    return kAnswered;
  });
}

AttributeChange change_of(const struct stat& wanted, int to_set) {
  using Change = AttributeChange;
  AttributeChange change;
  auto take = [&](int fuse_flag, unsigned field) {
    if ((to_set & fuse_flag) != 0) change.valid |= field;
  };
  take(FUSE_SET_ATTR_MODE, Change::kMode);
  take(FUSE_SET_ATTR_UID, Change::kUid);
  take(FUSE_SET_ATTR_GID, Change::kGid);
  take(FUSE_SET_ATTR_SIZE, Change::kSize);
  take(FUSE_SET_ATTR_ATIME, Change::kAtime);
  take(FUSE_SET_ATTR_MTIME, Change::kMtime);
  take(FUSE_SET_ATTR_ATIME_NOW, Change::kAtimeNow);
  take(FUSE_SET_ATTR_MTIME_NOW, Change::kMtimeNow);
  change.mode = wanted.st_mode;
  change.uid = wanted.st_uid;
  change.gid = wanted.st_gid;
  change.size = static_cast<uint64_t>(wanted.st_size);
  change.atime = wanted.st_atim;
  change.mtime = wanted.st_mtim;
  return change;
}

void on_setattr(fuse_req_t request, fuse_ino_t node, struct stat* wanted, int to_set,
                fuse_file_info*) {
  serve(request, [&] {
    AttributeChange change = change_of(*wanted, to_set);
    auto body = CurrentRequest::body<fuse_setattr_in>(FUSE_SETATTR);
    if (body && (body->valid & FATTR_KILL_SUIDGID) != 0)
      change.valid |= AttributeChange::kClearSuidSgid;
    struct stat attributes;
    if (int error = operations(request).set_attributes(node, change, attributes)) return error;
    fuse_reply_attr(request, &attributes, kCacheForever);
    return kAnswered;
  });
}

void on_statfs(fuse_req_t request, fuse_ino_t node) {
  serve(request, [&] {
    struct statvfs statistics;
    if (int error = operations(request).statistics(node, statistics)) return error;
    fuse_reply_statfs(request, &statistics);
    return kAnswered;
  });
}

// ---------------------------------------------------------------- data

void on_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* file) {
  serve(request, [&] {
    Entry entry;
    Operations& served = operations(request);
    if (int error = served.create(caller_of(request), parent, name, mode, file->flags, entry))
      return error;
    file->keep_cache = 1;
    int flags = file->flags;
    fuse_entry_param param = entry_param(entry);
    if (fuse_reply_create(request, &param, file) == -ENOENT) {
      served.release(entry.node, flags);
      served.forget(entry.node, 1);
    }
    return kAnswered;
  });
}

void on_open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  serve(request, [&] {
    Operations& served = operations(request);
    auto body = CurrentRequest::body<fuse_open_in>(FUSE_OPEN);
    bool clear = body && (body->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    if (int error = served.open(node, file->flags, clear)) return error;
    file->keep_cache = 1;
    int flags = file->flags;
    if (fuse_reply_open(request, file) == -ENOENT) served.release(node, flags);
    return kAnswered;
  });
}

void on_release(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  serve(request, [&] {
    operations(request).release(node, file->flags);
    return 0;
  });
}

void on_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
  serve(request, [&] {
    static thread_local std::vector<uint8_t> buffer;
    if (buffer.size() < size) buffer.resize(size);
    size_t got = 0;
    if (int error = operations(request).read(node, static_cast<uint64_t>(offset),
                                             std::span(buffer.data(), size), got))
      return error;
    fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.data()), got);
    return kAnswered;
  });
}

void on_write(fuse_req_t request, fuse_ino_t node, const char* data, size_t size, off_t offset,
              fuse_file_info* file) {
  serve(request, [&] {
    auto body = CurrentRequest::body<fuse_write_in>(FUSE_WRITE);
    bool clear = body && (body->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    ByteView bytes(reinterpret_cast<const uint8_t*>(data), size);
    Operations& served = operations(request);
    size_t put = 0;
    if (int error = served.write(node, static_cast<uint64_t>(offset), bytes, clear,
                                 file->writepage != 0, put))
      return error;
    // Before the answer: nothing may fail after it.
    auto ahead = served.sync_ahead(node);
    fuse_reply_write(request, put);
    CurrentRequest::do_afterwards(std::move(ahead));
    return kAnswered;
  });
}

void on_fsync(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info*) {
  serve(request, [&] {
    const auto answer = [request](int error) { fuse_reply_err(request, error); };
    CurrentRequest::do_afterwards(
        operations(request).sync(caller_of(request), node, data_only != 0, answer));
    return kAnswered;
  });
}

// Other requests tell whether these bits have to go; these two leave it to us. Whoever is not root
// is taken to be without CAP_FSETID.
bool clears_suid_sgid(fuse_req_t request) {
  return caller_of(request).uid != 0;
}

void on_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t size,
                  fuse_file_info*) {
  serve(request, [&] {
    return operations(request).allocate(node, mode, static_cast<uint64_t>(offset),
                                        static_cast<uint64_t>(size), clears_suid_sgid(request));
  });
}

void on_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset, fuse_file_info*,
                        fuse_ino_t to, off_t to_offset, fuse_file_info*, size_t size, int) {
  serve(request, [&] {
    size_t copied = 0;
    if (int error = operations(request).copy_range(from, static_cast<uint64_t>(from_offset), to,
                                                   static_cast<uint64_t>(to_offset), size,
                                                   clears_suid_sgid(request), copied))
      return error;
    fuse_reply_write(request, copied);
    return kAnswered;
  });
}

// ---------------------------------------------------------------- directories

// ENOSYS: the kernel opens and closes directories by itself from now on, and keeps their listings.
void on_opendir(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  serve(request, [] { return ENOSYS; });
}

size_t add_item(fuse_req_t request, char* room, size_t size, const DirectoryItem& item, bool plus) {
  auto next = static_cast<off_t>(item.next);
  if (!plus) {
    struct stat attributes = {};
    attributes.st_ino = item.inode;
    attributes.st_mode = item.type;
    return fuse_add_direntry(request, room, size, item.name, &attributes, next);
  }
  // Without an entry the node is 0 and the kernel only learns the name.
  fuse_entry_param param = item.entry != nullptr ? entry_param(*item.entry) : fuse_entry_param{};
  if (item.entry == nullptr) {
    param.attr.st_ino = item.inode;
    param.attr.st_mode = item.type;
  }
  return fuse_add_direntry_plus(request, room, size, item.name, &param, next);
}

void read_directory(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, bool plus) {
  serve(request, [&] {
    std::vector<char> buffer(std::min(size, kKeptReplyMax - sizeof(fuse_out_header)));
    size = buffer.size();
    size_t used = 0;
    auto take = [&](const DirectoryItem& item) {
      if (!CurrentRequest::can_count_more()) return false;
      size_t needed = add_item(request, buffer.data() + used, size - used, item, plus);
      if (needed > size - used) return false;
      used += needed;
      return true;
    };
    if (int error =
            operations(request).read_directory(node, static_cast<uint64_t>(offset), plus, take))
      return error;
    fuse_reply_buf(request, buffer.data(), used);
    return kAnswered;
  });
}

void on_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
  read_directory(request, node, size, offset, false);
}

void on_readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
                    fuse_file_info*) {
  read_directory(request, node, size, offset, true);
}

void on_fsyncdir(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info*) {
  serve(request, [&] { return operations(request).sync_directory(node, data_only != 0); });
}

// ---------------------------------------------------------------- extended attributes

void on_setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value,
                 size_t size, int flags) {
  serve(request, [&] {
    ByteView bytes(reinterpret_cast<const uint8_t*>(value), size);
    return operations(request).set_xattr(node, name, bytes, flags);
  });
}

template <typename Read>
int answer_xattr(fuse_req_t request, size_t size, Read&& read) {
  std::vector<char> buffer(size);
  size_t got = 0;
  if (int error = read(std::span(buffer), got)) return error;
  if (size == 0) {
    fuse_reply_xattr(request, got);
  } else {
    fuse_reply_buf(request, buffer.data(), got);
  }
  return kAnswered;
}

void on_getxattr(fuse_req_t request, fuse_ino_t node, const char* name, size_t size) {
  serve(request, [&] {
    return answer_xattr(request, size, [&](std::span<char> buffer, size_t& got) {
      return operations(request).get_xattr(node, name, buffer, got);
    });
  });
}

void on_listxattr(fuse_req_t request, fuse_ino_t node, size_t size) {
  serve(request, [&] {
    return answer_xattr(request, size, [&](std::span<char> buffer, size_t& got) {
      return operations(request).list_xattrs(node, buffer, got);
    });
  });
}

void on_removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
  serve(request, [&] { return operations(request).remove_xattr(node, name); });
}

fuse_lowlevel_ops make_callbacks() {
  fuse_lowlevel_ops ops = {};
  ops.init = on_init;
  ops.lookup = on_lookup;
  ops.mknod = on_mknod;
  ops.mkdir = on_mkdir;
  ops.symlink = on_symlink;
  ops.readlink = on_readlink;
  ops.link = on_link;
  ops.unlink = on_unlink;
  ops.rmdir = on_rmdir;
  ops.rename = on_rename;
  ops.getattr = on_getattr;
  ops.setattr = on_setattr;
  ops.statfs = on_statfs;
  ops.create = on_create;
  ops.open = on_open;
  ops.release = on_release;
  ops.read = on_read;
  ops.write = on_write;
  ops.fsync = on_fsync;
  ops.fallocate = on_fallocate;
  ops.copy_file_range = on_copy_file_range;
  ops.opendir = on_opendir;
  ops.readdir = on_readdir;
  ops.readdirplus = on_readdirplus;
  ops.fsyncdir = on_fsyncdir;
  ops.setxattr = on_setxattr;
  ops.getxattr = on_getxattr;
  ops.listxattr = on_listxattr;
  ops.removexattr = on_removexattr;
  // FORGET is served by fs/mount/session.cc.
  // Left out on purpose, so that the kernel does it itself: flush (pages are written back at close
  // in any case), getlk, setlk and flock (it keeps the locks), access (default_permissions), and
  // lseek: it does not write dirty pages back before it asks for a hole, so the answer could call
  // data a hole.
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& fuse_callbacks() {
  static const fuse_lowlevel_ops callbacks = make_callbacks();
  return callbacks;
}

}  // namespace walfs
