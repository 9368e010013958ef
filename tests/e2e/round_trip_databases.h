// Random work on SQLite databases, by seed: every journal mode, and what applications do to
// databases as files.
#pragma once

#include <sqlite3.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace walfs::test {

using Random = std::mt19937_64;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
using Connection = std::unique_ptr<sqlite3, CloseDatabase>;

class DatabaseWork {
 public:
  // `say` is told what is done, for the trace of a failure.
  DatabaseWork(Random& random, std::function<void(const std::string&)> say)
      : random_(random), say_(std::move(say)) {}

  // Where the databases are: the mount, or the source while nothing is mounted.
  void set_root(const std::string& root) { root_ = root; }
  void step();
  void close_all();
  // Brings every database file to the state that a restore must give: logs checkpointed away.
  void settle();
  // Leaves a transaction open on a database; returns what its file held before, by path.
  std::map<std::string, std::string> open_transaction();
  void end_transaction();
  // After a crash: every database recovers, or is one that asked for no safety and is removed.
  void recover();
  // The databases beneath a restored directory are sound, but those that asked for no safety.
  void expect_whole(const std::string& restored);
  const std::vector<std::string>& faults() const { return faults_; }

 private:
  struct Database {
    std::string path;
    std::string journal_mode;
    std::string synchronous;
    bool exclusive = false;
    bool was_unsafe = false;  // At some time since it was made or recovered.
    Connection connection;
    Connection reader;  // Holds a snapshot while set.
  };

  int below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }
  template <typename T>
  const T& pick(const std::vector<T>& values) {
    return values[random_() % values.size()];
  }
  std::string at(const std::string& path) const { return root_ + "/" + path; }
  std::string new_path();
  Database* any();
  Database* any_open();

  int execute(sqlite3* connection, const std::string& sql);
  std::string ask(sqlite3* connection, const std::string& sql);
  bool open(Database& database);
  void configure(Database& database);
  void make_schema(sqlite3* connection);
  std::string statement();
  void statements(sqlite3* connection, int count);

  void create();
  void write();
  void transaction();
  void spill();
  void several_databases();
  void vacuum();
  void checkpoint();
  void switch_mode();
  void change_safety();
  void read_on();
  void reopen();
  void remove();
  void rename();
  void replace_by_rename();
  void replace_by_copy();
  void close(Database& database);
  bool close_alone(Database& database);
  void remove_files(const std::string& path);

  Random& random_;
  std::function<void(const std::string&)> say_;
  std::string root_;
  std::vector<std::unique_ptr<Database>> databases_;
  Database* in_transaction_ = nullptr;
  int made_ = 0;
  std::vector<std::string> faults_;
};

}  // namespace walfs::test
