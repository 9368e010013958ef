// What the catalog asks its database, prepared once. Of the catalog's own sources.
#pragma once

#include "replicator/base/sqlite.h"
#include "replicator/catalog.h"

namespace walfs {

// In the column `database`.
constexpr uint64_t kIsDatabase = 1;
constexpr uint64_t kIsTorn = 2;

struct Catalog::Statements {
  SqlStatement set_meta;
  SqlStatement put_file, set_inode, drop_file, drop_hashes, drop_extents;
  SqlStatement put_entry, drop_entry;
  SqlStatement get_content, set_content;
  SqlStatement get_piece, put_piece, all_pieces, drop_pieces_from;
  SqlStatement put_extent, set_signature;
};

}  // namespace walfs
