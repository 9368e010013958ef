#include "replicator/base/sqlite.h"

#include <sqlite3.h>

#include <mutex>

namespace walfs {
namespace {

constexpr const char* kVfsName = "walfs-verbatim";

int verbatim_path(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

void register_vfs() {
  static std::once_flag once;
  std::call_once(once, [] {
    sqlite3_initialize();
    static sqlite3_vfs vfs = *sqlite3_vfs_find("unix");
    vfs.zName = kVfsName;
    vfs.xFullPathname = verbatim_path;
    vfs.pNext = nullptr;
    sqlite3_vfs_register(&vfs, /*makeDflt=*/0);
  });
}

Error sql_error(sqlite3* handle, const std::string& what) {
  const int code = sqlite3_errcode(handle);
  const Errc errc = code == SQLITE_FULL                               ? Errc::kNoSpace
                    : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? Errc::kDamaged
                                                                      : Errc::kIo;
  return Error{errc, what + ": " + sqlite3_errmsg(handle)};
}

}  // namespace

SqlStatement& SqlStatement::operator=(SqlStatement&& other) noexcept {
  if (this != &other) {
    sqlite3_finalize(statement_);
    statement_ = other.statement_;
    other.statement_ = nullptr;
  }
  return *this;
}

SqlStatement::~SqlStatement() {
  sqlite3_finalize(statement_);
}

SqlStatement& SqlStatement::bind(int index, uint64_t value) {
  sqlite3_bind_int64(statement_, index, static_cast<sqlite3_int64>(value));
  return *this;
}

SqlStatement& SqlStatement::bind(int index, std::string_view text) {
  sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()),
                    SQLITE_TRANSIENT);
  return *this;
}

SqlStatement& SqlStatement::bind_blob(int index, ByteView blob) {
  // An empty blob still is one, not NULL.
  sqlite3_bind_blob(statement_, index, blob.empty() ? "" : static_cast<const void*>(blob.data()),
                    static_cast<int>(blob.size()), SQLITE_STATIC);
  return *this;
}

SqlStatement& SqlStatement::bind_null(int index) {
  sqlite3_bind_null(statement_, index);
  return *this;
}

Result<bool> SqlStatement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  sqlite3* handle = sqlite3_db_handle(statement_);
  if (code != SQLITE_DONE) {
    Error error = sql_error(handle, "the catalog failed");
    sqlite3_reset(statement_);
    return error;
  }
  sqlite3_reset(statement_);
  return false;
}

Status SqlStatement::run() {
  WALFS_ASSIGN(const bool row, step());
  if (row) sqlite3_reset(statement_);
  return {};
}

void SqlStatement::reset() {
  sqlite3_reset(statement_);
}

uint64_t SqlStatement::integer(int column) const {
  return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
}

bool SqlStatement::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::string SqlStatement::text(int column) const {
  return std::string(as_text(blob(column)));
}

ByteView SqlStatement::blob(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return {static_cast<const uint8_t*>(data), static_cast<size_t>(size)};
}

Result<std::unique_ptr<SqlDatabase>> SqlDatabase::open(const std::string& path) {
  register_vfs();
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, kVfsName);
  std::unique_ptr<SqlDatabase> database(new SqlDatabase(handle));
  if (code != SQLITE_OK) return sql_error(handle, "cannot open " + path);
  return database;
}

SqlDatabase::~SqlDatabase() {
  sqlite3_close(handle_);
}

Status SqlDatabase::execute(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return sql_error(handle_, "the catalog failed");
  }
  return {};
}

Result<SqlStatement> SqlDatabase::prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(handle_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement,
                         nullptr) != SQLITE_OK) {
    return sql_error(handle_, "the catalog failed");
  }
  return SqlStatement(statement);
}

bool SqlDatabase::in_transaction() const {
  return sqlite3_get_autocommit(handle_) == 0;
}

int64_t SqlDatabase::changes() const {
  return sqlite3_changes64(handle_);
}

}  // namespace walfs
