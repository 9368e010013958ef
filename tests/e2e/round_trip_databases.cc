#include "tests/e2e/round_trip_databases.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/tree_compare.h"

namespace walfs::test {
namespace {

constexpr size_t kDatabasesMax = 7;
const std::vector<std::string> kJournalModes = {"wal",      "wal",     "wal",    "delete", "delete",
                                                "truncate", "persist", "memory", "off"};
const std::vector<std::string> kSafeties = {"off", "normal", "normal", "full", "extra"};
const std::vector<std::string> kDirectories = {"", "db/", "db/deep/", "more/"};
const std::vector<int> kPageSizes = {512, 1024, 4096, 4096, 8192, 65536};

// Refusals that SQLite gives to anybody.
bool is_refusal(int code) {
  return code == SQLITE_BUSY || code == SQLITE_LOCKED || code == SQLITE_ERROR;
}

bool is_unsafe(const std::string& journal_mode, const std::string& synchronous) {
  return synchronous == "off" || journal_mode == "off" || journal_mode == "memory" ||
         (synchronous == "normal" && journal_mode != "wal");
}

}  // namespace

int DatabaseWork::execute(sqlite3* connection, const std::string& sql) {
  char* message = nullptr;
  const int code = sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, &message);
  if (code != SQLITE_OK) {
    const std::string text = sql.substr(0, 120) + ": " + (message != nullptr ? message : "?") +
                             " (" + std::to_string(sqlite3_extended_errcode(connection)) + ")";
    say_("  " + text);
    if (!is_refusal(code)) faults_.push_back(text);
  }
  sqlite3_free(message);
  return code;
}

std::string DatabaseWork::ask(sqlite3* connection, const std::string& sql) {
  std::string answer;
  const auto keep = [](void* out, int columns, char** values, char**) {
    auto* text = static_cast<std::string*>(out);
    if (columns > 0 && values[0] != nullptr && text->empty()) *text = values[0];
    return 0;
  };
  const int code = sqlite3_exec(connection, sql.c_str(), keep, &answer, nullptr);
  return code == SQLITE_OK ? answer : "error " + std::to_string(code);
}

std::string DatabaseWork::new_path() {
  const std::string directory = pick(kDirectories);
  std::filesystem::create_directories(at(directory));
  return directory + "base" + std::to_string(++made_) + (below(2) == 0 ? ".db" : "");
}

DatabaseWork::Database* DatabaseWork::any() {
  return databases_.empty() ? nullptr : databases_[random_() % databases_.size()].get();
}

DatabaseWork::Database* DatabaseWork::any_open() {
  Database* database = any();
  if (database == nullptr || database == in_transaction_) return nullptr;
  if (database->connection == nullptr && !open(*database)) return nullptr;
  return database;
}

bool DatabaseWork::open(Database& database) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open(at(database.path).c_str(), &raw);
  database.connection.reset(raw);
  if (code != SQLITE_OK) {
    faults_.push_back("cannot open " + database.path + ": " + sqlite3_errmsg(raw));
    database.connection.reset();
    return false;
  }
  configure(database);
  return true;
}

void DatabaseWork::configure(Database& database) {
  sqlite3* connection = database.connection.get();
  static const std::vector<int> autocheckpoints = {0, 5, 50, 1000};
  execute(connection, "PRAGMA cache_size=" + std::to_string(below(3) == 0 ? 2000 : 10));
  execute(connection, "PRAGMA synchronous=" + database.synchronous);
  if (database.exclusive) execute(connection, "PRAGMA locking_mode=EXCLUSIVE");
  const std::string mode = ask(connection, "PRAGMA journal_mode=" + database.journal_mode);
  if (!mode.starts_with("error")) database.journal_mode = mode;
  execute(connection, "PRAGMA wal_autocheckpoint=" + std::to_string(pick(autocheckpoints)));
  database.was_unsafe =
      database.was_unsafe || is_unsafe(database.journal_mode, database.synchronous);
}

void DatabaseWork::make_schema(sqlite3* connection) {
  execute(connection,
          "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, k INTEGER, v BLOB);"
          "CREATE INDEX IF NOT EXISTS tk ON t(k)");
}

std::string DatabaseWork::statement() {
  static const std::vector<int> sizes = {0, 10, 100, 700, 5000, 40000};
  const std::string size = std::to_string(pick(sizes));
  const std::string key = std::to_string(below(300));
  switch (below(8)) {
    case 0:
      return "UPDATE t SET v=randomblob(" + size + ") WHERE k<" + key;
    case 1:
      return "UPDATE t SET k=k+1 WHERE id%" + std::to_string(2 + below(9)) + "=0";
    case 2:
      return "DELETE FROM t WHERE k>" + key + " AND id%2=0";
    case 3:
      return "DELETE FROM t WHERE id<(SELECT max(id)-200 FROM t)";
    case 4:
      return "REPLACE INTO t(id,k,v) VALUES(" + key + "," + key + ",zeroblob(" + size + "))";
    default:
      return "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<" +
             std::to_string(1 + below(12)) + ") INSERT INTO t(k,v) SELECT abs(random()%300)," +
             "randomblob(" + size + ") FROM c";
  }
}

void DatabaseWork::statements(sqlite3* connection, int count) {
  int open_savepoints = 0;
  const bool may_take_back = ask(connection, "PRAGMA journal_mode") != "off";
  for (int i = 0; i < count; ++i) {
    const int choice = below(10);
    if (choice == 0) {
      execute(connection, "SAVEPOINT s" + std::to_string(++open_savepoints));
    } else if (choice == 1 && open_savepoints > 0 && may_take_back) {
      execute(connection, "ROLLBACK TO s" + std::to_string(open_savepoints));
    } else if (choice == 2 && open_savepoints > 0) {
      execute(connection, "RELEASE s" + std::to_string(open_savepoints--));
    } else {
      execute(connection, statement());
    }
  }
}

void DatabaseWork::step() {
  using Action = void (DatabaseWork::*)();
  static const std::vector<std::pair<int, Action>> actions = {
      {4, &DatabaseWork::create},
      {20, &DatabaseWork::write},
      {16, &DatabaseWork::transaction},
      {5, &DatabaseWork::spill},
      {4, &DatabaseWork::several_databases},
      {4, &DatabaseWork::vacuum},
      {7, &DatabaseWork::checkpoint},
      {5, &DatabaseWork::switch_mode},
      {3, &DatabaseWork::change_safety},
      {3, &DatabaseWork::read_on},
      {6, &DatabaseWork::reopen},
      {1, &DatabaseWork::remove},
      {2, &DatabaseWork::rename},
      {2, &DatabaseWork::replace_by_rename},
      {2, &DatabaseWork::replace_by_copy},
  };
  int total = 0;
  for (const auto& action : actions) total += action.first;
  int choice = below(total);
  for (const auto& [weight, action] : actions) {
    if (choice < weight) return (this->*action)();
    choice -= weight;
  }
}

void DatabaseWork::create() {
  if (databases_.size() >= kDatabasesMax) return;
  auto database = std::make_unique<Database>();
  database->path = new_path();
  database->journal_mode = pick(kJournalModes);
  database->synchronous = pick(kSafeties);
  database->exclusive = below(5) == 0;
  static const std::vector<std::string> vacuums = {"none", "full", "incremental"};
  const int page_size = pick(kPageSizes);
  const std::string vacuum = pick(vacuums);
  say_("create " + database->path + " " + database->journal_mode + " " + database->synchronous +
       " page size " + std::to_string(page_size) + " auto_vacuum " + vacuum +
       (database->exclusive ? " exclusive" : ""));
  sqlite3* raw = nullptr;
  sqlite3_open(at(database->path).c_str(), &raw);
  database->connection.reset(raw);
  execute(raw, "PRAGMA page_size=" + std::to_string(page_size));
  execute(raw, "PRAGMA auto_vacuum=" + vacuum);
  configure(*database);
  make_schema(raw);
  databases_.push_back(std::move(database));
}

void DatabaseWork::write() {
  Database* database = any_open();
  if (database == nullptr) return;
  say_("write " + database->path);
  execute(database->connection.get(), statement());
}

void DatabaseWork::transaction() {
  Database* database = any_open();
  if (database == nullptr) return;
  sqlite3* connection = database->connection.get();
  const bool take_back = below(3) == 0 && database->journal_mode != "off";
  say_("transaction " + database->path + (take_back ? " (rolled back)" : ""));
  if (execute(connection, below(2) == 0 ? "BEGIN" : "BEGIN IMMEDIATE") != SQLITE_OK) return;
  statements(connection, 1 + below(8));
  if (take_back || execute(connection, "COMMIT") != SQLITE_OK) execute(connection, "ROLLBACK");
}

// More than the cache holds: pages reach the file, or the log, before the transaction's end.
void DatabaseWork::spill() {
  Database* database = any_open();
  if (database == nullptr) return;
  sqlite3* connection = database->connection.get();
  const bool take_back = below(2) == 0 && database->journal_mode != "off";
  say_("spill " + database->path + (take_back ? " (rolled back)" : ""));
  execute(connection, "PRAGMA cache_size=10");
  if (execute(connection, "BEGIN IMMEDIATE") != SQLITE_OK) return;
  for (int i = 0; i < 4; ++i) {
    execute(connection,
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<60) "
            "INSERT INTO t(k,v) SELECT i,randomblob(2000) FROM c");
    if (below(2) == 0) usleep(static_cast<useconds_t>(below(150)) * 1000);
  }
  if (take_back || execute(connection, "COMMIT") != SQLITE_OK) execute(connection, "ROLLBACK");
  execute(connection, "DELETE FROM t WHERE id<(SELECT max(id)-300 FROM t)");
}

void DatabaseWork::several_databases() {
  Database* first = any_open();
  Database* second = any_open();
  if (first == nullptr || second == nullptr || first == second || second->exclusive) return;
  if (first->journal_mode == "off" || second->journal_mode == "off") return;
  say_("transaction over " + first->path + " and " + second->path);
  sqlite3* connection = first->connection.get();
  if (execute(connection, "ATTACH '" + at(second->path) + "' AS other") != SQLITE_OK) return;
  execute(connection, "PRAGMA other.synchronous=" + second->synchronous);
  if (second->journal_mode != "wal")
    execute(connection, "PRAGMA other.journal_mode=" + second->journal_mode);
  bool good = execute(connection, "BEGIN") == SQLITE_OK;
  for (int i = 0; good && i < 3; ++i) {
    good = execute(connection, "INSERT INTO main.t(k,v) VALUES(1,randomblob(900))") == SQLITE_OK &&
           execute(connection, "INSERT INTO other.t(k,v) VALUES(1,randomblob(900))") == SQLITE_OK;
  }
  const bool take_back = !good || below(4) == 0;
  if (take_back || execute(connection, "COMMIT") != SQLITE_OK) execute(connection, "ROLLBACK");
  execute(connection, "DETACH other");
}

void DatabaseWork::vacuum() {
  Database* database = any_open();
  if (database == nullptr) return;
  sqlite3* connection = database->connection.get();
  const int way = below(4);
  say_("vacuum " + database->path + " way " + std::to_string(way));
  if (way == 0) execute(connection, "PRAGMA page_size=" + std::to_string(pick(kPageSizes)));
  if (way == 1) execute(connection, "DELETE FROM t WHERE id%3>0");
  if (way == 2) {
    execute(connection, "PRAGMA incremental_vacuum(5)");
  } else {
    execute(connection, "VACUUM");
  }
}

void DatabaseWork::checkpoint() {
  Database* database = any_open();
  if (database == nullptr) return;
  static const std::vector<std::string> modes = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
  const std::string mode = pick(modes);
  say_("checkpoint " + database->path + " " + mode);
  execute(database->connection.get(), "PRAGMA wal_checkpoint(" + mode + ")");
}

void DatabaseWork::switch_mode() {
  Database* database = any_open();
  if (database == nullptr) return;
  database->reader.reset();
  const std::string mode = pick(kJournalModes);
  say_("journal mode of " + database->path + " to " + mode);
  const std::string now = ask(database->connection.get(), "PRAGMA journal_mode=" + mode);
  if (!now.starts_with("error")) database->journal_mode = now;
  database->was_unsafe =
      database->was_unsafe || is_unsafe(database->journal_mode, database->synchronous);
}

void DatabaseWork::change_safety() {
  Database* database = any_open();
  if (database == nullptr) return;
  database->synchronous = pick(kSafeties);
  say_("synchronous of " + database->path + " to " + database->synchronous);
  execute(database->connection.get(), "PRAGMA synchronous=" + database->synchronous);
  database->was_unsafe =
      database->was_unsafe || is_unsafe(database->journal_mode, database->synchronous);
}

// A reader keeps its snapshot, so that the log can't be restarted beneath it.
void DatabaseWork::read_on() {
  Database* database = any();
  if (database == nullptr || database->exclusive) return;
  if (database->reader != nullptr) {
    say_("reader of " + database->path + " ends");
    database->reader.reset();
    return;
  }
  say_("reader of " + database->path);
  sqlite3* raw = nullptr;
  sqlite3_open(at(database->path).c_str(), &raw);
  database->reader.reset(raw);
  execute(raw, "BEGIN; SELECT count(*) FROM t");
}

void DatabaseWork::close(Database& database) {
  database.reader.reset();
  database.connection.reset();
}

void DatabaseWork::reopen() {
  Database* database = any();
  if (database == nullptr || database == in_transaction_) return;
  say_("close " + database->path);
  close(*database);
  if (below(2) == 0) open(*database);
}

// Closed by everybody with its journal ended, so that the one file is the whole database.
bool DatabaseWork::close_alone(Database& database) {
  if (&database == in_transaction_) return false;
  database.reader.reset();
  if (database.connection == nullptr && !open(database)) return false;
  execute(database.connection.get(), "PRAGMA wal_checkpoint(TRUNCATE)");
  close(database);
  return true;
}

void DatabaseWork::remove_files(const std::string& path) {
  for (const char* suffix : {"-journal", "-wal", "-shm", ""}) unlink((at(path) + suffix).c_str());
}

void DatabaseWork::remove() {
  Database* database = any();
  if (database == nullptr || !close_alone(*database)) return;
  say_("remove " + database->path);
  remove_files(database->path);
  std::erase_if(databases_, [&](const auto& one) { return one.get() == database; });
}

void DatabaseWork::rename() {
  Database* database = any();
  if (database == nullptr || !close_alone(*database)) return;
  const std::string path = new_path();
  // In either order: the database before its companions, or after them.
  static const std::vector<std::vector<const char*>> ways = {{"-journal", "-wal", "-shm", ""},
                                                             {"", "-journal", "-wal", "-shm"}};
  const auto& way = pick(ways);
  say_("rename " + database->path + " to " + path + (way.front()[0] == 0 ? " (first)" : " (last)"));
  for (const char* suffix : way)
    ::rename((at(database->path) + suffix).c_str(), (at(path) + suffix).c_str());
  database->path = path;
}

void DatabaseWork::replace_by_rename() {
  Database* database = any();
  if (database == nullptr || !close_alone(*database)) return;
  say_("replace " + database->path + " by rename");
  const std::string fresh = database->path + ".new";
  sqlite3* raw = nullptr;
  sqlite3_open(at(fresh).c_str(), &raw);
  Connection connection(raw);
  execute(raw, "PRAGMA page_size=" + std::to_string(pick(kPageSizes)));
  make_schema(raw);
  statements(raw, 5);
  while (sqlite3_get_autocommit(raw) == 0) execute(raw, "COMMIT");
  connection.reset();
  for (const char* suffix : {"-journal", "-wal", "-shm"})
    unlink((at(database->path) + suffix).c_str());
  ::rename(at(fresh).c_str(), at(database->path).c_str());
}

void DatabaseWork::replace_by_copy() {
  Database* database = any();
  Database* other = any();
  if (database == nullptr || other == nullptr || database == other) return;
  if (!close_alone(*database) || !close_alone(*other)) return;
  const bool truncate_first = below(2) == 0;
  say_("copy " + other->path + " over " + database->path);
  const std::string content = read_whole_file(at(other->path));
  for (const char* suffix : {"-journal", "-wal", "-shm"})
    unlink((at(database->path) + suffix).c_str());
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (truncate_first ? O_TRUNC : 0);
  const int fd = ::open(at(database->path).c_str(), flags, 0644);
  if (fd < 0) return faults_.push_back("cannot overwrite " + database->path);
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n =
        ::write(fd, content.data() + done, std::min<size_t>(content.size() - done, 20000));
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  if (ftruncate(fd, static_cast<off_t>(content.size())) != 0)
    faults_.push_back("cannot truncate " + database->path);
  ::close(fd);
}

void DatabaseWork::close_all() {
  in_transaction_ = nullptr;
  for (const auto& database : databases_) close(*database);
}

void DatabaseWork::settle() {
  for (const auto& database : databases_) {
    if (database.get() == in_transaction_) continue;
    database->reader.reset();
    if (database->connection == nullptr && !open(*database)) continue;
    sqlite3* connection = database->connection.get();
    const std::string busy = ask(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    if (busy != "0") faults_.push_back("checkpoint of " + database->path + ": " + busy);
  }
}

std::map<std::string, std::string> DatabaseWork::open_transaction() {
  Database* database = any_open();
  if (database == nullptr || in_transaction_ != nullptr) return {};
  // Without a journal nobody can tell a half transaction from a whole one.
  if (database->journal_mode == "off" || database->journal_mode == "memory") return {};
  database->reader.reset();
  sqlite3* connection = database->connection.get();
  ask(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
  std::map<std::string, std::string> before;
  before[database->path] = read_whole_file(at(database->path));
  say_("leave a transaction open on " + database->path);
  execute(connection, "PRAGMA cache_size=10");
  if (execute(connection, "BEGIN IMMEDIATE") != SQLITE_OK) return {};
  execute(connection,
          "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<80) "
          "INSERT INTO t(k,v) SELECT i,randomblob(2000) FROM c");
  in_transaction_ = database;
  return before;
}

void DatabaseWork::end_transaction() {
  if (in_transaction_ == nullptr) return;
  say_("end the transaction on " + in_transaction_->path);
  sqlite3* connection = in_transaction_->connection.get();
  in_transaction_ = nullptr;
  if (below(2) == 0 || execute(connection, "COMMIT") != SQLITE_OK) execute(connection, "ROLLBACK");
}

void DatabaseWork::recover() {
  std::erase_if(databases_, [&](const std::unique_ptr<Database>& database) {
    sqlite3* raw = nullptr;
    sqlite3_open(at(database->path).c_str(), &raw);
    Connection connection(raw);
    const std::string answer = ask(raw, "PRAGMA integrity_check");
    if (answer == "ok") {
      // Its first commit may be lost.
      make_schema(raw);
      database->was_unsafe = is_unsafe(database->journal_mode, database->synchronous);
      return false;
    }
    say_("recovery of " + database->path + ": " + answer);
    if (!database->was_unsafe)
      faults_.push_back(database->path + " did not survive the crash: " + answer);
    connection.reset();
    remove_files(database->path);
    return true;
  });
}

void DatabaseWork::expect_whole(const std::string& restored) {
  for (const auto& database : databases_) {
    const std::string path = restored + "/" + database->path;
    if (database->was_unsafe || !std::filesystem::exists(path)) continue;
    sqlite3* raw = nullptr;
    sqlite3_open(path.c_str(), &raw);
    const Connection connection(raw);
    const std::string answer = ask(raw, "PRAGMA integrity_check");
    if (answer != "ok") faults_.push_back("restored " + database->path + ": " + answer);
  }
}

}  // namespace walfs::test
