// The workload of scripts/bench: single-row commits and point reads with SQLite in a directory.
//
//   commits DIRECTORY JOURNAL_MODE SYNCHRONOUS SECONDS    prints: commits/s, median us of a commit,
//   reads/s
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

void check(int code, sqlite3* db) {
  if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return;
  std::fprintf(stderr, "commits: %s\n", sqlite3_errmsg(db));
  std::exit(1);
}

void execute(sqlite3* db, const std::string& sql) {
  check(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), db);
}

sqlite3_stmt* prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* statement = nullptr;
  check(sqlite3_prepare_v2(db, sql, -1, &statement, nullptr), db);
  return statement;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: commits DIRECTORY JOURNAL_MODE SYNCHRONOUS SECONDS\n");
    return 2;
  }
  const std::string path = std::string(argv[1]) + "/bench.db";
  const double seconds = std::atof(argv[4]);
  for (const char* suffix : {"", "-wal", "-shm", "-journal"})
    std::filesystem::remove(path + suffix);
  sqlite3* db = nullptr;
  check(sqlite3_open(path.c_str(), &db), db);
  execute(db, std::string("PRAGMA journal_mode=") + argv[2]);
  execute(db, std::string("PRAGMA synchronous=") + argv[3]);
  execute(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)");
  const std::string value(100, 'x');

  sqlite3_stmt* insert = prepare(db, "INSERT INTO t(v) VALUES(?1)");
  std::vector<double> times;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const auto start = Clock::now();
    sqlite3_bind_text(insert, 1, value.c_str(), -1, SQLITE_STATIC);
    check(sqlite3_step(insert), db);
    sqlite3_reset(insert);
    times.push_back(seconds_since(start));
  }
  const double commits = static_cast<double>(times.size()) / seconds_since(begin);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());

  sqlite3_stmt* select = prepare(db, "SELECT v FROM t WHERE id = ?1");
  const auto read_begin = Clock::now();
  uint64_t reads = 0;
  for (; seconds_since(read_begin) < seconds / 2; ++reads) {
    sqlite3_bind_int64(select, 1, static_cast<sqlite3_int64>(reads * 7919 % times.size() + 1));
    check(sqlite3_step(select), db);
    sqlite3_reset(select);
  }
  const double read_rate = static_cast<double>(reads) / seconds_since(read_begin);
  sqlite3_finalize(insert);
  sqlite3_finalize(select);
  check(sqlite3_close(db), db);
  std::printf("%.0f %.1f %.0f\n", commits, times[times.size() / 2] * 1e6, read_rate);
  return 0;
}
