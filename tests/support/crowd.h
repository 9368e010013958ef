// Applications that use a directory as hard as they can, each in a process of its own, and say what
// they were told: rows that SQLite has acknowledged, and the first error of any kind.
#pragma once

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/child_process.h"

namespace walfs::test {

struct JournalMode {
  const char* journal;
  const char* synchronous;
};

// SQLite as the members of the crowd use it: any answer but OK and BUSY is an error.
class CrowdDatabase {
 public:
  CrowdDatabase(const std::string& path, const JournalMode& mode) {
    code_ = sqlite3_open(path.c_str(), &handle_);
    sqlite3_busy_timeout(handle_, 60000);
    if (code_ == SQLITE_OK) run(std::string("PRAGMA journal_mode=") + mode.journal);
    if (code_ == SQLITE_OK) run(std::string("PRAGMA synchronous=") + mode.synchronous);
  }
  ~CrowdDatabase() { sqlite3_close(handle_); }
  CrowdDatabase(const CrowdDatabase&) = delete;
  CrowdDatabase& operator=(const CrowdDatabase&) = delete;

  bool run(const std::string& sql) {
    code_ = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
    return code_ == SQLITE_OK;
  }
  // The first column of the first row, or -1.
  int64_t ask(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    int64_t answer = -1;
    code_ = sqlite3_prepare_v2(handle_, sql.c_str(), -1, &statement, nullptr);
    if (code_ == SQLITE_OK) code_ = sqlite3_step(statement);
    if (code_ == SQLITE_ROW) {
      answer = sqlite3_column_int64(statement, 0);
      code_ = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return answer;
  }
  // The first column of the first row, or what went wrong.
  std::string text(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    code_ = sqlite3_prepare_v2(handle_, sql.c_str(), -1, &statement, nullptr);
    if (code_ == SQLITE_OK) code_ = sqlite3_step(statement);
    const unsigned char* text = code_ == SQLITE_ROW ? sqlite3_column_text(statement, 0) : nullptr;
    const std::string answer =
        text != nullptr ? reinterpret_cast<const char*>(text) : "error " + error();
    sqlite3_finalize(statement);
    return answer;
  }
  std::string error() const {
    return std::to_string(sqlite3_extended_errcode(handle_)) + " " + sqlite3_errmsg(handle_);
  }
  int64_t last_row() const { return sqlite3_last_insert_rowid(handle_); }

 private:
  sqlite3* handle_ = nullptr;
  int code_ = SQLITE_OK;
};

class Crowd {
 public:
  // inside: the directory to use. outside: where the members say what happened.
  Crowd(std::string inside, std::string outside)
      : inside_(std::move(inside)), outside_(std::move(outside)) {
    std::filesystem::create_directories(outside_);
  }

  void add_writer(const std::string& database, const JournalMode& mode) {
    const std::string me = member();
    children_.push_back(std::make_unique<Child>([=, this] { return write(database, mode, me); }));
    writers_.push_back({database, me});
  }
  void add_reader(const std::string& database, const JournalMode& mode) {
    const std::string me = member();
    children_.push_back(std::make_unique<Child>([=, this] { return read(database, mode, me); }));
  }
  void add_name_changer() {
    const std::string me = member();
    children_.push_back(std::make_unique<Child>([=, this] { return change_names(me); }));
  }
  void add_stall_probe() {
    probe_ = member();
    children_.push_back(std::make_unique<Child>([this] { return probe(probe_); }));
  }

  // Lets all of them end what they are doing. Returns what went wrong, a line each.
  std::string stop() {
    std::ofstream(outside_ + "/stop") << "now";
    std::string wrong;
    for (auto& child : children_)
      if (const int status = child->wait(Seconds(90)); status != 0)
        wrong += "a member of the crowd ended with status " + std::to_string(status) + "\n";
    for (size_t i = 0; i < members_; ++i) {
      std::ifstream said(outside_ + "/" + std::to_string(i) + ".error");
      for (std::string line; std::getline(said, line);) wrong += line + "\n";
    }
    children_.clear();
    return wrong;
  }

  // All of them die at once, wherever they are.
  void kill_all() {
    for (auto& child : children_) kill(child->pid(), SIGKILL);
    children_.clear();
  }

  // The rows of one database that were acknowledged to its writers.
  std::set<int64_t> acknowledged(const std::string& database) const {
    std::set<int64_t> rows;
    for (const auto& [name, who] : writers_) {
      if (name != database) continue;
      std::ifstream file(outside_ + "/" + who + ".rows");
      for (int64_t row = 0; file >> row;) rows.insert(row);
    }
    return rows;
  }
  // The longest time that a write with fsync and a look took, in milliseconds.
  int64_t longest_stall_ms() const {
    int64_t longest = 0;
    std::ifstream(outside_ + "/" + probe_ + ".stall") >> longest;
    return longest;
  }

 private:
  struct Writer {
    std::string database;
    std::string who;
  };

  std::string member() { return std::to_string(members_++); }
  bool stopped() const { return access((outside_ + "/stop").c_str(), F_OK) == 0; }
  int fail(const std::string& me, const std::string& what) const {
    std::ofstream(outside_ + "/" + me + ".error") << what << "\n";
    return 1;
  }

  int write(const std::string& name, const JournalMode& mode, const std::string& me) const {
    const int rows = open((outside_ + "/" + me + ".rows").c_str(), O_WRONLY | O_CREAT, 0600);
    while (!stopped()) {
      CrowdDatabase database(inside_ + "/" + name, mode);
      for (int i = 0; i < 40 && !stopped(); ++i) {
        const std::string text(static_cast<size_t>(50 + i * 37 % 900),
                               static_cast<char>('a' + i % 26));
        if (!database.run("INSERT INTO t(who, text) VALUES(" + me + ", '" + text + "')"))
          return fail(me, name + ": insert: " + database.error());
        const std::string row = std::to_string(database.last_row()) + "\n";
        if (::write(rows, row.data(), row.size()) < 0) return 2;
        if (i % 15 == 14 &&
            !database.run("UPDATE t SET text='' WHERE rowid % 7 = " + std::to_string(i % 7)))
          return fail(me, name + ": update: " + database.error());
      }
    }
    return 0;
  }

  int read(const std::string& name, const JournalMode& mode, const std::string& me) const {
    int64_t before = 0;
    while (!stopped()) {
      CrowdDatabase database(inside_ + "/" + name, mode);
      for (int i = 0; i < 20 && !stopped(); ++i) {
        const int64_t count = database.ask("SELECT count(*) FROM t");
        if (count < 0) return fail(me, name + ": select: " + database.error());
        if (count < before) return fail(me, name + ": rows were lost");
        before = count;
        usleep(2000);
      }
    }
    return 0;
  }

  int change_names(const std::string& me) const {
    const std::string base = inside_ + "/names-" + me;
    const auto path = [&](const char* name) { return base + "-" + name; };
    const auto bad = [&](const char* what) {
      return fail(me, std::string(what) + ": " + std::strerror(errno));
    };
    for (int i = 0; !stopped(); ++i) {
      const int fd = open(path("new").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
      if (fd < 0) return bad("create");
      const std::string text = "content " + std::to_string(i);
      const auto size = static_cast<ssize_t>(text.size());
      if (::write(fd, text.data(), text.size()) != size) return bad("write");
      if (link(path("new").c_str(), path("link").c_str()) != 0) return bad("link");
      if (rename(path("new").c_str(), path("kept").c_str()) != 0) return bad("rename");
      if (unlink(path("link").c_str()) != 0) return bad("unlink");
      if (symlink("kept", path("symlink").c_str()) != 0) return bad("symlink");
      if (unlink(path("symlink").c_str()) != 0) return bad("unlink a symlink");
      if (mkdir(path("directory").c_str(), 0700) != 0) return bad("mkdir");
      if (rename(path("directory").c_str(), path("moved").c_str()) != 0) return bad("rename dir");
      if (rmdir(path("moved").c_str()) != 0) return bad("rmdir");
      if (fsetxattr(fd, "user.a", "b", 1, XATTR_CREATE) != 0) return bad("setxattr");
      if (fremovexattr(fd, "user.a") != 0) return bad("removexattr");
      if (unlink(path("kept").c_str()) != 0) return bad("unlink the file");
      char back[64] = {};
      if (pread(fd, back, sizeof back, 0) != size || text != back)
        return bad("what an unlinked file holds");
      close(fd);
    }
    return 0;
  }

  int probe(const std::string& me) const {
    int64_t longest = 0;
    const std::string path = inside_ + "/probe";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    while (!stopped()) {
      const auto begin = std::chrono::steady_clock::now();
      struct stat attributes;
      if (pwrite(fd, &begin, sizeof begin, 0) < 0 || fsync(fd) != 0 ||
          stat((path + "-missing").c_str(), &attributes) == 0 || errno != ENOENT)
        return fail(me, std::string("probe: ") + std::strerror(errno));
      const auto took = std::chrono::steady_clock::now() - begin;
      longest = std::max<int64_t>(
          longest, std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
      usleep(1000);
    }
    std::ofstream(outside_ + "/" + me + ".stall") << longest;
    return 0;
  }

  const std::string inside_, outside_;
  size_t members_ = 0;
  std::vector<std::unique_ptr<Child>> children_;
  std::vector<Writer> writers_;
  std::string probe_;
};

}  // namespace walfs::test
