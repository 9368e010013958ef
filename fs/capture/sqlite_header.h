// What a file of SQLite's is, by its first bytes or by its name. Pure; all input is untrusted.
#pragma once

#include <string_view>

#include "replicator/base/bytes.h"
#include "replicator/base/database_header.h"

namespace walfs {

// By the first bytes only (at least 12 and 8 of them): magic, version and page size; magic.
bool looks_like_wal(ByteView first_bytes);
bool looks_like_journal(ByteView first_bytes);

enum class CompanionKind {
  kNone,          // Not the name of a companion.
  kWal,           // NAME-wal
  kShm,           // NAME-shm
  kJournal,       // NAME-journal
  kSuperJournal,  // NAME-mjXXXXXX9XX: ties together the journals of several databases.
};

struct CompanionName {
  CompanionKind kind = CompanionKind::kNone;
  std::string_view database;  // The NAME in front, a part of the argument; empty for kNone.
};

// What a file's name (without directory) says; whether there is such a database is another matter.
CompanionName parse_companion_name(std::string_view file_name);

}  // namespace walfs
