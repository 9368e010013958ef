#include "replicator/restore_proofs.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "replicator/hash.h"

namespace walfs {
namespace {

// The chunk's digest, the proof, and the XXH3 of both.
constexpr size_t kDigestSize = std::tuple_size_v<Sha256Digest>;
constexpr size_t kSummedSize = kDigestSize + sizeof(uint64_t);
constexpr size_t kNoteSize = kSummedSize + sizeof(uint64_t);
using Note = std::array<uint8_t, kNoteSize>;

std::string key_of(const Sha256Digest& chunk) {
  return std::string(as_text(chunk));
}

uint64_t check_of(const Note& note) {
  return stored_hash(ByteView(note).first(kSummedSize));
}

// False at the end, or behind it.
bool read_note(int fd, uint64_t number, Note& note) {
  const auto offset = static_cast<off_t>(number * kNoteSize);
  return ::pread(fd, note.data(), note.size(), offset) == static_cast<ssize_t>(note.size());
}

}  // namespace

RestoreProofs::RestoreProofs(FileDescriptor file) : file_(std::move(file)) {
  Note note;
  for (; read_note(file_.get(), count_, note); ++count_) {
    ByteReader reader(note);
    const std::string chunk(as_text(reader.bytes(kDigestSize)));
    const uint64_t proof = reader.u64();
    if (reader.u64() == check_of(note)) proofs_[chunk] = proof;
  }
}

std::optional<uint64_t> RestoreProofs::find(const Sha256Digest& chunk) const {
  const auto found = proofs_.find(key_of(chunk));
  if (found == proofs_.end()) return std::nullopt;
  return found->second;
}

void RestoreProofs::add(const Sha256Digest& chunk, uint64_t proof) {
  ByteWriter writer;
  writer.bytes(chunk);
  writer.u64(proof);
  writer.u64(stored_hash(writer.data()));
  const std::scoped_lock lock(mutex_);
  const auto offset = static_cast<off_t>(count_ * kNoteSize);
  const auto size = static_cast<ssize_t>(writer.size());
  if (::pwrite(file_.get(), writer.data().data(), writer.size(), offset) == size) ++count_;
}

}  // namespace walfs
