#include "replicator/catalog.h"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "replicator/catalog_statements.h"
#include "replicator/change_codec.h"

namespace walfs {
namespace {

constexpr uint64_t kSchemaVersion = 2;
constexpr const char* kSchema = R"sql(
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA journal_size_limit = 67108864;
  CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS files(
    id INTEGER PRIMARY KEY, inode INTEGER, attributes BLOB,
    block_size INTEGER, size INTEGER, database INTEGER, scanned INTEGER, checksum INTEGER,
    sig_size INTEGER, sig_mtime INTEGER, sig_ctime INTEGER);
  CREATE TABLE IF NOT EXISTS entries(
    parent INTEGER, name BLOB, child INTEGER, PRIMARY KEY(parent, name)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS hashes(
    file INTEGER, piece INTEGER, data BLOB, PRIMARY KEY(file, piece)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS extents(
    file INTEGER, file_offset INTEGER, size INTEGER, digest BLOB, chunk_size INTEGER,
    chunk_offset INTEGER, PRIMARY KEY(file, file_offset)) WITHOUT ROWID;
)sql";

void remove_database(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) ::unlink((path + suffix).c_str());
}

Result<std::unique_ptr<SqlDatabase>> open_schema(const std::string& path) {
  WALFS_ASSIGN(auto database, SqlDatabase::open(path));
  WALFS_TRY(database->execute(kSchema));
  WALFS_ASSIGN(auto version, database->prepare("PRAGMA user_version"));
  WALFS_ASSIGN(const bool row, version.step());
  const uint64_t found = row ? version.integer(0) : 0;
  version.reset();
  if (found != 0 && found != kSchemaVersion) return Error{Errc::kDamaged, "another version"};
  WALFS_TRY(database->execute("PRAGMA user_version = " + std::to_string(kSchemaVersion)));
  return database;
}

}  // namespace

Catalog::Catalog(std::unique_ptr<SqlDatabase> database)
    : database_(std::move(database)), sql_(std::make_unique<Statements>()) {}

Catalog::~Catalog() = default;

Status Catalog::prepare() {
  const std::pair<SqlStatement*, const char*> statements[] = {
      {&sql_->set_meta, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)"},
      {&sql_->put_file,
       "INSERT INTO files(id, attributes) VALUES(?1, ?2) "
       "ON CONFLICT(id) DO UPDATE SET attributes = excluded.attributes"},
      {&sql_->set_inode,
       "INSERT INTO files(id, inode) VALUES(?1, ?2) "
       "ON CONFLICT(id) DO UPDATE SET inode = excluded.inode"},
      {&sql_->drop_file, "DELETE FROM files WHERE id = ?1"},
      {&sql_->drop_hashes, "DELETE FROM hashes WHERE file = ?1"},
      {&sql_->drop_extents, "DELETE FROM extents WHERE file = ?1"},
      {&sql_->put_entry, "INSERT OR REPLACE INTO entries VALUES(?1, ?2, ?3)"},
      {&sql_->drop_entry, "DELETE FROM entries WHERE parent = ?1 AND name = ?2"},
      {&sql_->get_content, "SELECT block_size, size, database, scanned FROM files WHERE id = ?1"},
      {&sql_->set_content,
       "INSERT INTO files(id, block_size, size, database, scanned, checksum) "
       "VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(id) DO UPDATE SET "
       "block_size = ?2, size = ?3, database = ?4, scanned = ?5, checksum = ?6"},
      {&sql_->get_piece, "SELECT data FROM hashes WHERE file = ?1 AND piece = ?2"},
      {&sql_->put_piece, "INSERT OR REPLACE INTO hashes VALUES(?1, ?2, ?3)"},
      {&sql_->all_pieces, "SELECT piece, data FROM hashes WHERE file = ?1 ORDER BY piece"},
      {&sql_->drop_pieces_from, "DELETE FROM hashes WHERE file = ?1 AND piece >= ?2"},
      {&sql_->put_extent, "INSERT OR REPLACE INTO extents VALUES(?1, ?2, ?3, ?4, ?5, ?6)"},
      {&sql_->set_signature,
       "UPDATE files SET sig_size = ?2, sig_mtime = ?3, sig_ctime = ?4 WHERE id = ?1"},
  };
  for (const auto& [statement, sql] : statements) {
    WALFS_ASSIGN(*statement, database_->prepare(sql));
  }
  return {};
}

Result<std::unique_ptr<Catalog>> Catalog::open(const std::string& path) {
  auto catalog = open_existing(path);
  if (catalog.ok() || catalog.error().code != Errc::kDamaged) return catalog;
  remove_database(path);
  return open_existing(path);
}

Result<std::unique_ptr<Catalog>> Catalog::open_existing(const std::string& path) {
  WALFS_ASSIGN(auto database, open_schema(path));
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(database)));
  WALFS_TRY(catalog->prepare());
  WALFS_TRY(catalog->read_header());
  WALFS_TRY(catalog->database_->execute("BEGIN"));
  return catalog;
}

Status Catalog::read_header() {
  std::map<std::string, std::string> rows;
  WALFS_ASSIGN(auto all, database_->prepare("SELECT key, value FROM meta"));
  while (true) {
    WALFS_ASSIGN(const bool more, all.step());
    if (!more) break;
    rows.emplace(all.text(0), all.text(1));
  }
  const auto position = [&](const char* key) {
    return Position::parse(rows[key]).value_or(Position{});
  };
  header_.volume = rows["volume"];
  header_.url = rows["url"];
  header_.token = rows["token"];
  header_.earlier_token = rows["earlier_token"];
  header_.parent = position("parent");
  header_.position = position("position");
  header_.uploaded = position("uploaded");
  header_.complete = rows.contains("complete") ? position("complete") : header_.position;
  applied_complete_ = header_.complete;
  header_.epoch = position("epoch").value;
  header_.claimed = rows["claimed"] == "1";
  header_.snapshot_done = rows["snapshot_done"] == "1";
  header_.clean = rows["clean"] == "1";
  WALFS_ASSIGN(auto newest, database_->prepare("SELECT max(id) FROM files"));
  WALFS_ASSIGN(const bool row, newest.step());
  next_id_ = std::max(next_id_, position("next_id").value);
  baseline_is_kept_ = header_.snapshot_done;
  if (row) note_id(newest.integer(0));
  return {};
}

void Catalog::note_id(FileId id) {
  next_id_ = std::max(next_id_, id + 1);
}

CatalogHeader Catalog::header() const {
  const std::scoped_lock lock(mutex_);
  return header_;
}

// Outside of the transaction a statement would be durable at once, before the points that it
// belongs to, and a read would find what was before them.
Status Catalog::check() const {
  if (database_->in_transaction()) return {};
  return Error{Errc::kNoSpace, "the catalog has lost what was not committed: the disk was full"};
}

void Catalog::roll_back() {
  if (database_->in_transaction()) static_cast<void>(database_->execute("ROLLBACK").ok());
}

Status Catalog::set_header(const CatalogHeader& header) {
  const std::scoped_lock lock(mutex_);
  applied_complete_ = header.complete;
  return write_header(header);
}

Status Catalog::set_claimed() {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  WALFS_TRY(sql_->set_meta.bind(1, "claimed").bind(2, "1").run());
  header_.claimed = true;
  return {};
}

Status Catalog::set_snapshot_done() {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  WALFS_TRY(sql_->set_meta.bind(1, "snapshot_done").bind(2, "1").run());
  header_.snapshot_done = true;
  return {};
}

Status Catalog::set_clean() {
  const std::scoped_lock lock(mutex_);
  if (uncommitted_) return Error{Errc::kIo, "points that are not sealed are not to be committed"};
  CatalogHeader header = header_;
  header.clean = true;
  return write_header(header);
}

Status Catalog::note_uploaded(Position uploaded) {
  const std::scoped_lock lock(mutex_);
  if (header_.uploaded == uploaded) return {};
  WALFS_TRY(check());
  WALFS_TRY(sql_->set_meta.bind(1, "uploaded").bind(2, uploaded.to_string()).run());
  header_.uploaded = uploaded;
  return {};
}

Status Catalog::write_header(const CatalogHeader& header) {
  WALFS_TRY(check());
  const std::pair<std::string_view, std::string> rows[] = {
      {"volume", header.volume},
      {"url", header.url},
      {"token", header.token},
      {"earlier_token", header.earlier_token},
      {"parent", header.parent.to_string()},
      {"position", header.position.to_string()},
      {"uploaded", header.uploaded.to_string()},
      {"complete", header.complete.to_string()},
      {"epoch", Position{header.epoch}.to_string()},
      {"next_id", Position{next_id_}.to_string()},
      {"claimed", header.claimed ? "1" : "0"},
      {"snapshot_done", header.snapshot_done ? "1" : "0"},
      {"clean", header.clean ? "1" : "0"},
  };
  for (const auto& [key, value] : rows) {
    WALFS_TRY(sql_->set_meta.bind(1, key).bind(2, std::string_view(value)).run());
  }
  WALFS_TRY(database_->execute("COMMIT; BEGIN"));
  header_ = header;
  uncommitted_ = false;
  baseline_is_kept_ = header.snapshot_done;
  return {};
}

Status Catalog::wipe() {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  next_id_ = kRootId + 1;
  return database_->execute(
      "DELETE FROM files; DELETE FROM entries; DELETE FROM hashes; DELETE FROM extents; COMMIT; "
      "BEGIN");
}

FileId Catalog::new_id() {
  const std::scoped_lock lock(mutex_);
  return next_id_++;
}

Status Catalog::put_file(FileId id, const Attributes& attributes) {
  ByteWriter encoded;
  encode_attributes(attributes, encoded);
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  note_id(id);
  return sql_->put_file.bind(1, id).bind_blob(2, encoded.data()).run();
}

Status Catalog::put_entry(FileId parent, const std::string& name, FileId child) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  return sql_->put_entry.bind(1, parent).bind_blob(2, as_bytes(name)).bind(3, child).run();
}

Status Catalog::set_inode(FileId id, uint64_t inode) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  return sql_->set_inode.bind(1, id).bind(2, inode).run();
}

Status Catalog::put_extent(FileId id, uint64_t file_offset, uint64_t size, const ChunkRef& chunk,
                           uint64_t chunk_offset) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  return sql_->put_extent.bind(1, id)
      .bind(2, file_offset)
      .bind(3, size)
      .bind_blob(4, chunk.digest)
      .bind(5, chunk.size)
      .bind(6, chunk_offset)
      .run();
}

bool Catalog::transaction_lost() const {
  const std::scoped_lock lock(mutex_);
  return !database_->in_transaction();
}

bool Catalog::baseline_lost() const {
  const std::scoped_lock lock(mutex_);
  return !database_->in_transaction() && !baseline_is_kept_;
}

Status Catalog::begin_again(std::span<const AppliedPoint> points) {
  const std::scoped_lock lock(mutex_);
  if (!baseline_is_kept_) {
    return Error{Errc::kNoSpace,
                 "the disk was full during the first upload, which has to begin anew: unmount and "
                 "mount again"};
  }
  WALFS_TRY(database_->execute("BEGIN"));
  for (const AppliedPoint& applied : points) {
    Status again = apply_whole(applied.point, applied.inodes);
    if (again.ok()) continue;
    roll_back();
    return again;
  }
  return {};
}

Status Catalog::apply(const Point& point, const Inodes& inodes) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  return apply_whole(point, inodes);
}

Status Catalog::apply_whole(const Point& point, const Inodes& inodes) {
  WALFS_TRY(database_->execute("SAVEPOINT point"));
  Status applied = apply_changes(point, inodes);
  if (applied.ok()) applied = database_->execute("RELEASE point");
  if (applied.ok()) {
    if (!point.partial) applied_complete_ = point.position;
    uncommitted_ = true;
    return {};
  }
  // Where SQLite has rolled back more than the savepoint there is nothing left to go back to.
  if (database_->in_transaction() && !database_->execute("ROLLBACK TO point; RELEASE point").ok())
    roll_back();
  return applied;
}

Status Catalog::apply_changes(const Point& point, const Inodes& inodes) {
  for (const Change& change : point.changes) {
    if (const auto* file = std::get_if<SetFile>(&change)) {
      ByteWriter encoded;
      encode_attributes(file->attributes, encoded);
      note_id(file->id);
      WALFS_TRY(sql_->put_file.bind(1, file->id).bind_blob(2, encoded.data()).run());
    } else if (const auto* drop = std::get_if<DropFile>(&change)) {
      WALFS_TRY(sql_->drop_file.bind(1, drop->id).run());
      WALFS_TRY(sql_->drop_hashes.bind(1, drop->id).run());
      WALFS_TRY(sql_->drop_extents.bind(1, drop->id).run());
    } else if (const auto* entry = std::get_if<SetEntry>(&change)) {
      SqlStatement& statement = entry->child == kNoFile ? sql_->drop_entry : sql_->put_entry;
      statement.bind(1, entry->parent).bind_blob(2, as_bytes(entry->name));
      if (entry->child != kNoFile) statement.bind(3, entry->child);
      WALFS_TRY(statement.run());
    } else {
      const auto& content = std::get<SetContent>(change);
      WALFS_TRY(apply_content(content, point.partial && !content.checksum));
    }
  }
  for (const auto& [id, inode] : inodes)
    WALFS_TRY(sql_->set_inode.bind(1, id).bind(2, inode).run());
  return {};
}

Status Catalog::commit(Position position) {
  const std::scoped_lock lock(mutex_);
  CatalogHeader header = header_;
  header.position = position;
  header.complete = applied_complete_;
  return write_header(header);
}

Status Catalog::for_each_file(const std::function<void(const FileRow&)>& visit) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  WALFS_ASSIGN(auto rows,
               database_->prepare("SELECT id, inode, attributes, sig_size, sig_mtime, sig_ctime, "
                                  "database "
                                  "FROM files WHERE attributes IS NOT NULL"));
  while (true) {
    WALFS_ASSIGN(const bool more, rows.step());
    if (!more) return {};
    FileRow row;
    row.id = rows.integer(0);
    row.inode = rows.integer(1);
    ByteReader encoded(rows.blob(2));
    row.attributes = decode_attributes(encoded);
    if (!encoded.ok())
      return Error{Errc::kDamaged, "the catalog holds attributes that make no sense"};
    if (!rows.is_null(3)) {
      row.signature = Signature{rows.integer(3), static_cast<int64_t>(rows.integer(4)),
                                static_cast<int64_t>(rows.integer(5))};
    }
    row.torn = !rows.is_null(6) && (rows.integer(6) & kIsTorn) != 0;
    visit(row);
  }
}

Status Catalog::for_each_entry(const std::function<void(const SetEntry&)>& visit) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  WALFS_ASSIGN(auto rows, database_->prepare("SELECT parent, name, child FROM entries"));
  while (true) {
    WALFS_ASSIGN(const bool more, rows.step());
    if (!more) return {};
    visit(SetEntry{rows.integer(0), rows.text(1), rows.integer(2)});
  }
}

Status Catalog::save_signature(FileId id, const Signature& signature) {
  const std::scoped_lock lock(mutex_);
  WALFS_TRY(check());
  return sql_->set_signature.bind(1, id)
      .bind(2, signature.size)
      .bind(3, static_cast<uint64_t>(signature.mtime_ns))
      .bind(4, static_cast<uint64_t>(signature.ctime_ns))
      .run();
}

}  // namespace walfs
