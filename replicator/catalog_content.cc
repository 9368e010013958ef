// What the catalog has of files' content: a row for each and the hashes of its blocks.
#include <algorithm>
#include <array>
#include <cstring>

#include "replicator/catalog_statements.h"

namespace walfs {
namespace {

// Hashes are stored in pieces, so that a change rewrites a few KiB and not the whole array. A piece
// ends with the file: most files are small.
constexpr uint64_t kPieceBlocks = 512;

using HashPiece = std::array<uint64_t, kPieceBlocks>;

// Of the piece with that number, in a file of so many blocks.
ByteView piece_bytes(const HashPiece& piece, uint64_t number, uint64_t block_count) {
  const uint64_t before = number * kPieceBlocks;
  const uint64_t count = before < block_count ? std::min(block_count - before, kPieceBlocks) : 0;
  return {reinterpret_cast<const uint8_t*>(piece.data()), count * sizeof(uint64_t)};
}

// The hashes of what is stored of a piece, `count` at most; none of what cannot be one.
std::span<const uint8_t> stored_hashes(ByteView stored, uint64_t count) {
  if (stored.size() > sizeof(HashPiece) || stored.size() % sizeof(uint64_t) != 0) return {};
  return stored.first(std::min<uint64_t>(stored.size(), count * sizeof(uint64_t)));
}

}  // namespace

// Writes the given hashes into their pieces; `missing` stands for blocks that had none before.
Status Catalog::update_hashes(FileId id, uint64_t block_count,
                              const std::vector<BlockChange>& blocks, uint64_t missing,
                              Existing existing) {
  for (size_t i = 0; i < blocks.size();) {
    const uint64_t number = blocks[i].index / kPieceBlocks;
    HashPiece piece;
    piece.fill(missing);
    WALFS_ASSIGN(const bool found, sql_->get_piece.bind(1, id).bind(2, number).step());
    if (found) {
      const auto stored = stored_hashes(sql_->get_piece.blob(0), kPieceBlocks);
      std::memcpy(piece.data(), stored.data(), stored.size());
      sql_->get_piece.reset();
    }
    for (; i < blocks.size() && blocks[i].index / kPieceBlocks == number; ++i) {
      uint64_t& hash = piece[blocks[i].index % kPieceBlocks];
      if (existing == Existing::kReplace || hash == kUnknownHash) hash = blocks[i].hash;
    }
    sql_->put_piece.bind(1, id).bind(2, number);
    WALFS_TRY(sql_->put_piece.bind_blob(3, piece_bytes(piece, number, block_count)).run());
  }
  return {};
}

Status Catalog::put_scanned(FileId id, const ContentState& state, uint64_t first_block,
                            std::span<const uint64_t> hashes) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  ContentState known;
  WALFS_ASSIGN(const bool row, sql_->get_content.bind(1, id).step());
  const bool has_content = row && !sql_->get_content.is_null(0);
  if (has_content) {
    known.block_size = static_cast<uint32_t>(sql_->get_content.integer(0));
    known.size = sql_->get_content.integer(1);
    known.database = (sql_->get_content.integer(2) & kIsDatabase) != 0;
  }
  if (row) sql_->get_content.reset();
  // What the log has said since (a size, another block size) is newer than what was read.
  const ContentState& current = has_content ? known : state;
  if (current.block_size == state.block_size) {
    std::vector<BlockChange> blocks;
    blocks.reserve(hashes.size());
    for (size_t i = 0; i < hashes.size(); ++i)
      blocks.push_back({first_block + i, hashes[i], {}, 0});
    WALFS_TRY(update_hashes(id, current.block_count(), blocks, kUnknownHash, Existing::kKeep));
  }
  sql_->set_content.bind(1, id)
      .bind(2, uint64_t{current.block_size})
      .bind(3, current.size)
      .bind(4, uint64_t{current.database})
      .bind(5, uint64_t{state.scanned})
      .bind_null(6);
  return sql_->set_content.run();
}

Status Catalog::apply_content(const SetContent& change, bool torn) {
  WALFS_ASSIGN(const bool row, sql_->get_content.bind(1, change.id).step());
  const bool had = row && !sql_->get_content.is_null(0);
  const uint64_t old_size = had ? sql_->get_content.integer(1) : 0;
  const bool scanned = !had || sql_->get_content.integer(3) != 0;
  if (row) sql_->get_content.reset();
  const uint64_t missing = scanned || change.reset ? kZeroBlockHash : kUnknownHash;
  const uint64_t count = (change.size + change.block_size - 1) / change.block_size;
  if (change.reset) {
    WALFS_TRY(sql_->drop_hashes.bind(1, change.id).run());
    WALFS_TRY(sql_->drop_extents.bind(1, change.id).run());
  } else if (change.size < old_size) {
    // Blocks behind the new end are gone: whole pieces, and the rest of the last one.
    const uint64_t pieces = (count + kPieceBlocks - 1) / kPieceBlocks;
    WALFS_TRY(sql_->drop_pieces_from.bind(1, change.id).bind(2, pieces).run());
    std::vector<BlockChange> gone;
    for (uint64_t i = count; i < pieces * kPieceBlocks; ++i) gone.push_back({i, missing, {}, 0});
    WALFS_TRY(update_hashes(change.id, count, gone, missing, Existing::kReplace));
  }
  WALFS_TRY(update_hashes(change.id, count, change.blocks, missing, Existing::kReplace));
  sql_->set_content.bind(1, change.id)
      .bind(2, uint64_t{change.block_size})
      .bind(3, change.size)
      .bind(4, (change.database ? kIsDatabase : 0) | (torn ? kIsTorn : 0))
      .bind(5, uint64_t{scanned || change.reset});
  if (change.checksum) {
    sql_->set_content.bind(6, *change.checksum);
  } else {
    sql_->set_content.bind_null(6);
  }
  return sql_->set_content.run();
}

Status Catalog::load_hashes(FileId id, ContentState& state) {
  sql_->all_pieces.bind(1, id);
  while (true) {
    WALFS_ASSIGN(const bool more, sql_->all_pieces.step());
    if (!more) return {};
    const uint64_t first = sql_->all_pieces.integer(0) * kPieceBlocks;
    if (first >= state.hashes.size()) continue;
    const auto stored = stored_hashes(sql_->all_pieces.blob(1), state.hashes.size() - first);
    std::memcpy(state.hashes.data() + first, stored.data(), stored.size());
  }
}

Result<std::optional<ContentState>> Catalog::content(FileId id) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  WALFS_ASSIGN(const bool row, sql_->get_content.bind(1, id).step());
  if (!row) return std::optional<ContentState>();
  ContentState state;
  const bool has_content = !sql_->get_content.is_null(0);
  state.block_size = static_cast<uint32_t>(sql_->get_content.integer(0));
  state.size = sql_->get_content.integer(1);
  state.database = (sql_->get_content.integer(2) & kIsDatabase) != 0;
  state.torn = (sql_->get_content.integer(2) & kIsTorn) != 0;
  state.scanned = sql_->get_content.integer(3) != 0;
  sql_->get_content.reset();
  if (!has_content) return std::optional<ContentState>();
  constexpr uint64_t kBlocksMax = uint64_t{1} << 32;
  if (state.block_size < kBlockSizeMin || state.block_size > kBlockSizeMax ||
      state.block_count() > kBlocksMax) {
    return Error{Errc::kDamaged, "the catalog's row of file " + std::to_string(id) + " is damaged"};
  }
  state.hashes.assign(state.block_count(), state.scanned ? kZeroBlockHash : kUnknownHash);
  WALFS_TRY(load_hashes(id, state));
  // After the whole scan, what was neither read nor written lies where the file has grown since.
  if (state.scanned) {
    std::replace(state.hashes.begin(), state.hashes.end(), kUnknownHash, kZeroBlockHash);
  }
  return std::optional<ContentState>(std::move(state));
}

}  // namespace walfs
