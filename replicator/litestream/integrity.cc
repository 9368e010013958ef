#include "replicator/litestream/integrity.h"

#include <sqlite3.h>

#include <memory>

namespace walfs::litestream {
namespace {

constexpr int kStepsBetweenLooks = 100000;
constexpr size_t kMessageSizeMax = 300;

struct Closer {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, Closer>;
using Statement = std::unique_ptr<sqlite3_stmt, Closer>;

int is_cancelled(void* flag) {
  return *static_cast<const std::atomic<bool>*>(flag) ? 1 : 0;
}

// Immutable: SQLite takes no lock, looks for no journal and makes no file beside it.
Database open_immutable(int fd) {
  sqlite3* raw = nullptr;
  const std::string name = "file:/proc/self/fd/" + std::to_string(fd) + "?immutable=1";
  sqlite3_open_v2(name.c_str(), &raw, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, nullptr);
  Database database(raw);
  if (raw == nullptr) return database;
  // The content is not trusted, and what an application's constraints say is its own affair.
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_exec(raw, "PRAGMA cell_size_check=ON; PRAGMA ignore_check_constraints=ON", nullptr,
               nullptr, nullptr);
  return database;
}

Status verdict(int code, const char* said, const std::string& what) {
  const int primary = code & 0xff;
  if (primary == SQLITE_INTERRUPT)
    return Error{Errc::kCancelled, "interrupted; nothing was changed"};
  if (primary == SQLITE_NOMEM || primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN)
    return Error{Errc::kIo, std::string("SQLite cannot check the restored database: ") + said};
  // An unknown function or collation is the application's; the checksums were right.
  if (primary == SQLITE_ERROR) return {};
  return Error{Errc::kDamaged, what + " is damaged: SQLite says " + said};
}

}  // namespace

Status check_integrity(int fd, const std::string& what, const std::atomic<bool>* cancelled) {
  const Database database = open_immutable(fd);
  if (!database) return Error{Errc::kIo, "SQLite has no memory to check the restored database"};
  if (cancelled != nullptr) {
    sqlite3_progress_handler(database.get(), kStepsBetweenLooks, is_cancelled,
                             const_cast<std::atomic<bool>*>(cancelled));
  }
  sqlite3_stmt* raw = nullptr;
  const int prepared =
      sqlite3_prepare_v2(database.get(), "PRAGMA integrity_check(1)", -1, &raw, nullptr);
  const Statement statement(raw);
  if (prepared != SQLITE_OK) return verdict(prepared, sqlite3_errmsg(database.get()), what);
  const int stepped = sqlite3_step(statement.get());
  if (stepped != SQLITE_ROW) return verdict(stepped, sqlite3_errmsg(database.get()), what);
  const unsigned char* text = sqlite3_column_text(statement.get(), 0);
  const std::string said = text != nullptr ? reinterpret_cast<const char*>(text) : "nothing";
  if (said == "ok") return {};
  return verdict(SQLITE_CORRUPT, said.substr(0, kMessageSizeMax).c_str(), what);
}

}  // namespace walfs::litestream
