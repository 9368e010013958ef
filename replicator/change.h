// What a point of the log consists of: changes to the state of a directory.
//
// The state is a set of files (inodes) under ids that the volume assigns and never gives to another
// file, and a set of entries (parent directory, name) -> file. Hard links are two entries with one
// file. Content is an array of blocks; a block that was never written is zeros. Each change sets
// something to a new value, so a later one replaces an earlier one of the same file, entry or
// block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/hash.h"
#include "replicator/position.h"

namespace walfs {

using FileId = uint64_t;
inline constexpr FileId kRootId = 1;
inline constexpr FileId kNoFile = 0;

enum class FileType : uint8_t {
  kRegular,
  kDirectory,
  kSymlink,
  kFifo,
  kSocket,
  kCharacter,
  kBlock
};

struct Attributes {
  FileType type = FileType::kRegular;
  uint32_t mode = 0;  // Permission bits with suid, sgid and sticky; not the type.
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  int64_t mtime_ns = 0;
  std::string symlink_target;
  std::vector<std::pair<std::string, std::string>> xattrs;  // Sorted by name.
  bool operator==(const Attributes&) const = default;
};

struct SetFile {
  FileId id = kNoFile;
  Attributes attributes;
};
struct DropFile {
  FileId id = kNoFile;
};
// child == kNoFile removes the entry.
struct SetEntry {
  FileId parent = kNoFile;
  std::string name;
  FileId child = kNoFile;
};
struct BlockChange {
  uint64_t index = 0;
  uint64_t hash = kZeroBlockHash;
  // The block's bytes up to the end of the file; empty for a block of zeros, which is not stored.
  // When a change is written, the bytes belong to the caller; when it is read back, data is empty
  // and data_offset tells where they are.
  ByteView data;
  uint64_t data_offset = 0;
};
struct SetContent {
  FileId id = kNoFile;
  uint32_t block_size = 0;
  uint64_t size = 0;                 // Of the file in bytes; blocks behind it are gone.
  bool reset = false;                // All earlier blocks are gone (a new block size).
  bool database = false;             // The blocks are pages of a SQLite database.
  std::optional<uint64_t> checksum;  // Of the whole file afterwards, when known.
  std::vector<BlockChange> blocks;   // Ascending by index.
};
using Change = std::variant<SetFile, DropFile, SetEntry, SetContent>;

struct Point {
  Position position;
  int64_t time_ns = 0;  // Wall clock, since 1970.
  // A step on the way to the next point that is not partial, and not a state of its own.
  bool partial = false;
  std::vector<Change> changes;
};

// The bytes of block `index` that are stored: all of it, or what lies before the end of the file.
inline uint64_t stored_block_size(uint64_t index, uint32_t block_size, uint64_t file_size) {
  const uint64_t start = index * block_size;
  if (start >= file_size) return 0;
  return file_size - start < block_size ? file_size - start : block_size;
}

}  // namespace walfs
