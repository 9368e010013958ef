// A thin owner of a SQLite connection and its statements, for our own metadata only (never for a
// user's database). Not thread-safe: its owner serialises the calls.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace walfs {

// One prepared statement. Bind by position from 1, step, read columns from 0, reset.
class SqlStatement {
 public:
  SqlStatement() = default;
  explicit SqlStatement(sqlite3_stmt* statement) : statement_(statement) {}
  SqlStatement(SqlStatement&& other) noexcept : statement_(other.statement_) {
    other.statement_ = nullptr;
  }
  SqlStatement& operator=(SqlStatement&& other) noexcept;
  ~SqlStatement();

  SqlStatement& bind(int index, uint64_t value);  // Stored as the signed integer of the same bits.
  SqlStatement& bind(int index, std::string_view text);
  SqlStatement& bind_blob(int index, ByteView blob);  // Not copied: must outlive the step.
  SqlStatement& bind_null(int index);
  // True: a row is there. False: done, and the statement is reset.
  Result<bool> step();
  // For statements without rows: step and reset.
  Status run();
  void reset();

  uint64_t integer(int column) const;
  bool is_null(int column) const;
  std::string text(int column) const;
  ByteView blob(int column) const;  // Valid until the next step or reset.

 private:
  sqlite3_stmt* statement_ = nullptr;
};

class SqlDatabase {
 public:
  // Opens or creates the file; `path` is used as it is, symbolic links of /proc included (a path
  // through /proc/self/fd reaches a directory that a mount covers, which SQLite's own path
  // resolution would not).
  static Result<std::unique_ptr<SqlDatabase>> open(const std::string& path);
  ~SqlDatabase();
  Status execute(const std::string& sql);
  Result<SqlStatement> prepare(const std::string& sql);
  int64_t changes() const;
  // False also after SQLite has rolled a transaction back by itself, as it does on a full disk.
  bool in_transaction() const;

 private:
  explicit SqlDatabase(sqlite3* handle) : handle_(handle) {}
  sqlite3* handle_;
};

}  // namespace walfs
