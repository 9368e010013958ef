// The names that Litestream gives its objects, and ours for the database that is restored. Pure;
// all input is untrusted.
//
//   generations/<16 hex>/snapshots/<index>.snapshot.lz4     v0.3: the database file
//   generations/<16 hex>/wal/<index>_<offset>.wal.lz4       v0.3: a piece of a write-ahead log
//   ltx/<level>/<min>-<max>.ltx and <level, 4 hex>/...      v0.5, in directories and in S3
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace walfs::litestream {

inline constexpr std::string_view kGenerationsPrefix = "generations/";

struct ObjectName {
  std::string generation;  // 16 hex digits: one unbroken run of Litestream over the database.
  bool is_snapshot = false;
  uint32_t index = 0;   // Counts the logs of the generation, from one restart to the next.
  uint64_t offset = 0;  // Of a piece: where it begins in its log.
};

// Nothing for a name of anything else, such as a file that Litestream was just writing.
std::optional<ObjectName> parse_object_name(std::string_view key);

inline constexpr uint32_t kLtxSnapshotLevel = 9;

struct LtxName {
  uint32_t level = 0;  // To kLtxSnapshotLevel.
  uint64_t first = 0;  // Transactions, from 1.
  uint64_t last = 0;
};

// The same for the objects of v0.5.
std::optional<LtxName> parse_ltx_name(std::string_view key);
// As Litestream names them in directories.
std::string ltx_level_text(uint32_t level);
std::string ltx_name_text(const LtxName& name);

// A state of the database, for people: GENERATION/INDEX or GENERATION/INDEX/OFFSET.
std::string position_text(std::string_view generation, uint32_t index);
std::string position_text(std::string_view generation, uint32_t index, uint64_t offset);
// The same of v0.5: the last transaction, as Litestream writes it.
std::string txid_text(uint64_t transaction);

// What the restored file is called: the last part of the path of the replica's URL, or database.db
// where that can be no file's name. `url` is a valid one.
std::string database_name(const std::string& url);

}  // namespace walfs::litestream
