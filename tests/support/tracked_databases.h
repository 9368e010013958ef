// Databases in a TrackedDirectory, written by SQLite itself, with what each committed transaction
// made of all of them. What the replica's points restore is compared with these states.
#pragma once

#include <sqlite3.h>

#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "fs/capture/sqlite_header.h"
#include "tests/support/tracked_directory.h"
#include "tests/support/tracked_vfs.h"

namespace walfs::test {

// The environment's WALFS_TEST_SEED alone, or so many seeds from WALFS_TEST_FROM on;
// WALFS_TEST_ROUNDS multiplies.
inline std::vector<uint32_t> seeds(uint32_t count) {
  const auto number = [](const char* name, uint32_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : otherwise;
  };
  if (std::getenv("WALFS_TEST_SEED") != nullptr) return {number("WALFS_TEST_SEED", 0)};
  std::vector<uint32_t> all(count * number("WALFS_TEST_ROUNDS", 1));
  std::iota(all.begin(), all.end(), number("WALFS_TEST_FROM", 1));
  return all;
}

class TrackedDatabases {
 public:
  using State = std::map<std::string, std::string>;  // Content by name; "" is no database.

  explicit TrackedDatabases(TrackedDirectory& directory) {
    attach(directory);
    states_.emplace_back();
  }
  // What after_change refers to may be gone by then.
  ~TrackedDatabases() {
    after_change = nullptr;
    close_all();
  }

  // The applications die, perhaps in the middle of a call: nothing that they still do has an
  // effect, and what was noted last stands.
  void die() { vfs_->dead = true; }
  bool dead() const { return vfs_->dead; }
  // Of dead ones the connections end; those that come write to another mount.
  void attach(TrackedDirectory& directory) {
    close_all();
    vfs_.reset();
    directory_ = &directory;
    vfs_.emplace(directory.mount(), directory.source());
    vfs_->after_change = [this] {
      if (after_change && !inside_ && !dead()) {
        inside_ = true;
        after_change();
        inside_ = false;
      }
    };
  }

  // Called after each call of SQLite's that changed a file; what it does is not reported to it.
  std::function<void()> after_change;

  // A connection under the name of its file, or another name for a further one.
  void open(const std::string& file, const std::string& pragmas = "", std::string as = "") {
    if (as.empty()) as = file;
    sqlite3* db = nullptr;
    const int rc = sqlite3_open_v2(directory_->source(file).c_str(), &db,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, TrackedVfs::kName);
    EXPECT_TRUE(rc == SQLITE_OK || dead()) << file << ": " << sqlite3_errmsg(db);
    connections_[as] = {db, file};
    if (!pragmas.empty()) exec(as, pragmas);
  }
  void close(const std::string& as) {
    const auto found = connections_.find(as);
    ASSERT_NE(found, connections_.end());
    const int rc = sqlite3_close(found->second.db);
    EXPECT_TRUE(rc == SQLITE_OK || dead()) << sqlite3_errstr(rc);
    connections_.erase(found);
  }
  void close_all() {
    while (!connections_.empty()) close(connections_.begin()->first);
  }
  bool is_open(const std::string& as) const { return connections_.contains(as); }

  // The first column of the first row. Each statement's state is noted.
  std::string exec(const std::string& as, const std::string& sql) {
    std::string first;
    for (const char* rest = sql.c_str(); *rest != '\0';) {
      sqlite3_stmt* statement = nullptr;
      sqlite3* db = connections_.at(as).db;
      int rc = sqlite3_prepare_v2(db, rest, -1, &statement, &rest);
      while (rc == SQLITE_OK && statement != nullptr) {
        if (sqlite3_step(statement) != SQLITE_ROW) break;
        const unsigned char* text = sqlite3_column_text(statement, 0);
        if (text != nullptr && first.empty()) first = reinterpret_cast<const char*>(text);
      }
      rc = rc == SQLITE_OK ? sqlite3_finalize(statement) : rc;
      if (dead()) return "";
      if (rc != SQLITE_OK) ADD_FAILURE() << sql << ": " << sqlite3_errmsg(db);
      note();
    }
    return first;
  }
  // For names that change without SQLite.
  void set_content(const std::string& file, const std::string& content) {
    now_[file] = content;
    if (states_.back() != now_) states_.push_back(now_);
  }
  const std::string& content(const std::string& file) { return now_[file]; }
  const State& now() const { return now_; }
  // What was found after a crash, or made while nothing was mounted.
  void set_now(State state) {
    now_ = std::move(state);
    if (states_.back() != now_) states_.push_back(now_);
  }

  // The state as the databases are now, when no connection is in a transaction. Taken from the
  // files: a connection's cache also holds what SQLite never writes (pages on the freelist).
  void note() {
    for (const auto& [as, connection] : connections_)
      if (sqlite3_get_autocommit(connection.db) == 0) return;
    for (const auto& [as, connection] : connections_)
      now_[connection.file] = without_tail(database_content(connection.file));
    if (states_.back() != now_) states_.push_back(now_);
  }

  // I1, I6: each point is the state after some transaction, never an older one than the point
  // before it.
  void expect_points_are_states() {
    directory_->seal();
    size_t at = 0;
    for (const Position position : directory_->positions()) {
      const State restored = restored_state(position);
      const size_t found = find_state(restored, at);
      ASSERT_LT(found, states_.size())
          << position.to_string() << ": not a state after a transaction, or an old one; at " << at
          << " of " << states_.size() << " states\n"
          << describe(restored, at);
      at = found;
    }
    last_found_ = at;
  }
  // I2: the last point is the newest state.
  void expect_newest_restored() {
    directory_->seal();
    const State restored = restored_state(directory_->log().sealed());
    const size_t found = find_state(restored, states_.size() - 1);
    EXPECT_LT(found, states_.size()) << describe(restored, states_.size() - 1);
  }
  size_t state_count() const { return states_.size(); }
  // The first state from `from` on that is the wanted one, or state_count().
  size_t find_state(const State& wanted, size_t from) const {
    for (size_t i = from; i < states_.size(); ++i) {
      bool same = true;
      for (const auto& [file, content] : wanted) {
        const auto known = states_[i].find(file);
        same = same && content == (known != states_[i].end() ? known->second : "");
      }
      if (same) return i;
    }
    return states_.size();
  }
  // How each file stands against the states around the expected one.
  std::string describe(const State& restored, size_t at) const {
    std::string text;
    for (const auto& [file, content] : restored) {
      text += "  " + file + " (" + std::to_string(content.size()) + " bytes) is in states";
      for (size_t i = 0; i < states_.size(); ++i) {
        const auto known = states_[i].find(file);
        if (content == (known != states_[i].end() ? known->second : ""))
          text += " " + std::to_string(i);
      }
      const auto near = states_[std::min(at, states_.size() - 1)].find(file);
      if (near != states_[std::min(at, states_.size() - 1)].end())
        text +=
            "; against state " + std::to_string(at) + ": " + describe_bytes(near->second, content);
      text += "\n";
    }
    return text;
  }

  // Without what lies behind the end that the header tells: SQLite ends a transaction that shrinks
  // a database first, and cuts the file then.
  static std::string without_tail(const std::string& content) {
    const auto header = parse_database_header(
        ByteView(reinterpret_cast<const uint8_t*>(content.data()), content.size()));
    if (!header || !header->page_count) return content;
    return content.substr(0, uint64_t{*header->page_count} * header->page_size);
  }

 private:
  struct Connection {
    sqlite3* db = nullptr;
    std::string file;
  };

  // The file overlaid with the committed frames of its log.
  std::string database_content(const std::string& file) {
    std::string content = directory_->mount().content(file);
    const std::string log = directory_->mount().content(file + "-wal");
    WalFollower follower;
    follower.scan([&](uint64_t offset, std::span<uint8_t> into) {
      const size_t size = offset < log.size() ? std::min(into.size(), log.size() - offset) : 0;
      if (size > 0) std::memcpy(into.data(), log.data() + offset, size);
      return size;
    });
    if (follower.database_pages() == 0) return content;
    const size_t page_size = follower.page_size();
    content.resize(follower.database_pages() * page_size);
    for (const auto& [page, offset] : follower.pages_in_wal())
      if (page <= follower.database_pages())
        content.replace((page - 1) * page_size, page_size, log, offset, page_size);
    return content;
  }
  State restored_state(Position position) {
    const Tree tree = directory_->restored_tree(position);
    State state;
    for (const auto& [file, content] : now_) {
      const auto found = tree.find(file);
      state[file] = found != tree.end() ? without_tail(found->second.content) : "";
    }
    return state;
  }
  TrackedDirectory* directory_ = nullptr;
  std::optional<TrackedVfs> vfs_;
  bool inside_ = false;
  std::map<std::string, Connection> connections_;
  State now_;
  std::vector<State> states_;
  size_t last_found_ = 0;
};

// Random statements on one database.
class TrackedWorkload {
 public:
  TrackedWorkload(TrackedDatabases& databases, std::string file, std::string pragmas, uint32_t seed)
      : databases_(databases), file_(std::move(file)), pragmas_(std::move(pragmas)), random_(seed) {
    // Salts, nonces and randomblob() by the seed, too.
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, static_cast<int>(seed), nullptr);
    databases_.open(file_, pragmas_);
    exec(
        "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b); CREATE INDEX IF NOT EXISTS i ON "
        "t(b)");
    exec("DROP TABLE IF EXISTS u");  // Of one that died in the middle of a step.
  }
  // One statement or a few that commit together.
  void step() {
    static constexpr const char* kCheckpoints[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
    switch (random_() % 13) {
      case 0:
      case 1:
        insert(1 + random_() % 3);
        break;
      case 2:
        insert(30);
        break;
      case 3:
        exec("UPDATE t SET b = randomblob(length(b)) WHERE a % 3 = 0");
        break;
      case 4:
        exec("DELETE FROM t WHERE a % 4 = 1");
        break;
      case 5:
      case 6:
        exec("BEGIN; UPDATE t SET b = randomblob(100);");
        exec("UPDATE t SET b = randomblob(120);");
        exec("UPDATE t SET b = randomblob(80) WHERE a % 2 = 0;");
        exec(random_() % 2 == 0 ? "COMMIT" : "ROLLBACK");
        break;
      case 7:
        exec("BEGIN; INSERT INTO t(b) VALUES(randomblob(900)); SAVEPOINT s;");
        exec("UPDATE t SET b = randomblob(90);");
        exec("ROLLBACK TO s; INSERT INTO t(b) VALUES(randomblob(70)); RELEASE s;");
        exec("COMMIT");
        break;
      case 8:
      case 9:
        exec(std::string("PRAGMA wal_checkpoint(") + kCheckpoints[random_() % 4] + ")");
        break;
      case 10:
        exec("VACUUM");
        break;
      case 11:
        exec("CREATE TABLE u AS SELECT * FROM t");
        exec("DROP TABLE u");
        break;
      default:
        databases_.close(file_);
        databases_.open(file_, pragmas_);
    }
  }
  void insert(size_t rows) {
    exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<" +
         std::to_string(rows) + ") INSERT INTO t(b) SELECT randomblob(" +
         std::to_string(random_() % 700) + ") FROM n");
  }
  void exec(const std::string& sql) { databases_.exec(file_, sql); }
  std::mt19937& random() { return random_; }

 private:
  TrackedDatabases& databases_;
  const std::string file_, pragmas_;
  std::mt19937 random_;
};

}  // namespace walfs::test
