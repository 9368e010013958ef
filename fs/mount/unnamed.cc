#include "fs/mount/unnamed.h"

#include <linux/fuse.h>

#include <cerrno>
#include <cstring>

namespace walfs {
namespace {

// We are the only way to the files, so what the kernel knows stays true. Seconds.
constexpr uint64_t kForever = 1'000'000'000;

template <typename Struct>
void append(std::vector<uint8_t>& bytes, const Struct& fields) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&fields);
  bytes.insert(bytes.end(), raw, raw + sizeof fields);
}

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

std::vector<uint8_t> reply_of(uint64_t unique, int error, const Entry& entry) {
  std::vector<uint8_t> reply;
  append(reply, fuse_out_header{sizeof(fuse_out_header), -error, unique});
  if (error != 0) return reply;
  fuse_entry_out made = {};
  made.nodeid = entry.node;
  made.entry_valid = kForever;
  made.attr_valid = kForever;
  made.attr = attributes_of(entry.attributes);
  append(reply, made);
  fuse_open_out opened = {};
  opened.open_flags = FOPEN_KEEP_CACHE;
  append(reply, opened);
  const auto size = static_cast<uint32_t>(reply.size());
  std::memcpy(reply.data() + offsetof(fuse_out_header, len), &size, sizeof size);
  return reply;
}

}  // namespace

Unnamed make_unnamed(Operations& operations, const uint8_t* request, size_t size) {
  fuse_in_header header = {};
  fuse_create_in in = {};
  Unnamed made;
  if (size < sizeof header + sizeof in) {
    if (size >= sizeof header) std::memcpy(&header, request, sizeof header);
    made.error = EINVAL;
    made.reply = reply_of(header.unique, made.error, {});
    return made;
  }
  std::memcpy(&header, request, sizeof header);
  std::memcpy(&in, request + sizeof header, sizeof in);
  const Caller caller = {header.uid, header.gid, static_cast<pid_t>(header.pid), in.umask};
  Entry entry;
  made.flags = static_cast<int>(in.flags);
  try {
    made.error =
        operations.create_unnamed(caller, header.nodeid, in.mode & 07777, made.flags, entry);
  } catch (const std::exception&) {
    made.error = EIO;
  }
  made.node = entry.node;
  made.reply = reply_of(header.unique, made.error, entry);
  return made;
}

}  // namespace walfs
