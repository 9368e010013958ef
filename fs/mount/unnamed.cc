#include "fs/mount/unnamed.h"

#include <cerrno>
#include <cstring>
#include <exception>

namespace walfs {
namespace {

fuse_attr attributes_of(const struct stat& from) {
  fuse_attr to = {};
  to.ino = from.st_ino;
  to.size = static_cast<uint64_t>(from.st_size);
  to.blocks = static_cast<uint64_t>(from.st_blocks);
  to.atime = static_cast<uint64_t>(from.st_atim.tv_sec);
  to.mtime = static_cast<uint64_t>(from.st_mtim.tv_sec);
  to.ctime = static_cast<uint64_t>(from.st_ctim.tv_sec);
  to.atimensec = static_cast<uint32_t>(from.st_atim.tv_nsec);
  to.mtimensec = static_cast<uint32_t>(from.st_mtim.tv_nsec);
  to.ctimensec = static_cast<uint32_t>(from.st_ctim.tv_nsec);
  to.mode = from.st_mode;
  to.nlink = static_cast<uint32_t>(from.st_nlink);
  to.uid = from.st_uid;
  to.gid = from.st_gid;
  to.blksize = static_cast<uint32_t>(from.st_blksize);
  return to;
}

void fill_reply(Unnamed& made, uint64_t unique, const Entry& entry) {
  made.reply.header = {sizeof(fuse_out_header), -made.error, unique};
  if (made.error != 0) return;
  made.reply.header.len = sizeof made.reply;
  made.reply.entry.nodeid = entry.node;
  made.reply.entry.entry_valid = kCacheForever;
  made.reply.entry.attr_valid = kCacheForever;
  made.reply.entry.attr = attributes_of(entry.attributes);
  made.reply.opened.open_flags = FOPEN_KEEP_CACHE;
}

}  // namespace

Unnamed make_unnamed(Operations& operations, const uint8_t* request, size_t size) {
  fuse_in_header header;
  std::memcpy(&header, request, sizeof header);
  fuse_create_in in = {};
  Unnamed made;
  Entry entry;
  if (size < sizeof header + sizeof in) {
    made.error = EINVAL;
  } else {
    std::memcpy(&in, request + sizeof header, sizeof in);
    made.flags = static_cast<int>(in.flags);
    const Caller caller = {header.uid, header.gid, static_cast<pid_t>(header.pid), in.umask};
    try {
      made.error =
          operations.create_unnamed(caller, header.nodeid, in.mode & 07777, made.flags, entry);
    } catch (const std::exception&) {
      made.error = EIO;
    }
  }
  made.node = entry.node;
  fill_reply(made, header.unique, entry);
  return made;
}

}  // namespace walfs
