#include "replicator/stores/object_body.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "replicator/base/digest.h"

namespace walfs {

Status read_body(const ObjectBody& body, uint64_t offset, std::span<uint8_t> into) {
  if (body.fd < 0) {
    std::copy_n(body.memory.begin() + static_cast<ptrdiff_t>(offset), into.size(), into.begin());
    return {};
  }
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = pread(body.fd, into.data() + done, into.size() - done,
                              static_cast<off_t>(body.offset + offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_from_errno("cannot read the file to upload", errno);
    if (got == 0) return Error{Errc::kIo, "the file to upload is shorter than expected"};
    done += static_cast<size_t>(got);
  }
  return {};
}

ObjectBody body_part(const ObjectBody& body, uint64_t offset, uint64_t size) {
  if (body.fd < 0) return ObjectBody::of(body.memory.subspan(offset, size));
  return ObjectBody::of_file(body.fd, body.offset + offset, size);
}

Result<std::string> body_sha256(const ObjectBody& body) {
  if (body.fd < 0) return to_hex(sha256(body.memory));
  Sha256 hash;
  Bytes buffer(std::min<uint64_t>(body.size, 256 * 1024));
  for (uint64_t at = 0; at < body.size;) {
    const std::span<uint8_t> piece(buffer.data(),
                                   std::min<uint64_t>(buffer.size(), body.size - at));
    WALFS_TRY(read_body(body, at, piece));
    hash.update(piece);
    at += piece.size();
  }
  return to_hex(hash.finish());
}

}  // namespace walfs
