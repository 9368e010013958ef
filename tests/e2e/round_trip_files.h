// Random work on ordinary files and names, by seed. Operations may fail; what counts is what the
// tree is afterwards.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace walfs::test {

class FileWork {
 public:
  FileWork(std::mt19937_64& random, std::function<void(const std::string&)> say)
      : random_(random), say_(std::move(say)) {}
  ~FileWork() { close_all(); }
  FileWork(const FileWork&) = delete;
  FileWork& operator=(const FileWork&) = delete;

  void set_root(const std::string& root) { root_ = root + "/files"; }
  void step();
  void close_all();

 private:
  int below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }
  std::string name();
  std::string at(const std::string& path) const { return root_ + "/" + path; }
  std::string bytes();
  void create();
  void write();
  void append();
  void truncate();
  void rename();
  void link();
  void symlink();
  void make_directory();
  void remove_directory();
  void change_mode();
  void change_owner();
  void change_xattr();
  void set_times();
  void punch();
  void make_fifo();
  void unlink();
  void hold();
  void make_nameless();

  std::mt19937_64& random_;
  std::function<void(const std::string&)> say_;
  std::string root_;
  std::vector<int> held_;
};

}  // namespace walfs::test
