// One file, used in every way that a program can use one, with a model of it in memory. Which way
// is decided by a seed.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/tree_compare.h"

namespace walfs::test {

inline constexpr size_t kMaxFileSize = 300'000;
inline constexpr size_t kMaxLength = 70'000;
inline constexpr size_t kFilePage = 4096;

struct FileRange {
  size_t offset;
  size_t length;
  size_t end() const { return offset + length; }
};

// Where two strings differ first, for a message.
inline std::string first_difference(const std::string& expected, const std::string& actual) {
  const auto at = std::mismatch(expected.begin(), expected.end(), actual.begin(), actual.end());
  return std::to_string(expected.size()) + " and " + std::to_string(actual.size()) +
         " bytes, first unequal at " + std::to_string(at.first - expected.begin());
}

// What direct IO needs to be aligned.
using PageBuffer = std::unique_ptr<char, decltype(&std::free)>;
inline PageBuffer page_buffer(size_t size) {
  return {static_cast<char*>(std::aligned_alloc(kFilePage, size)), &std::free};
}

class FileExerciser {
 public:
  // `direct`: the directory takes O_DIRECT.
  FileExerciser(std::string path, uint64_t seed, bool direct)
      : path_(std::move(path)), random_(seed), direct_(direct) {
    open_file(O_CREAT);
  }
  ~FileExerciser() { close_file(); }
  FileExerciser(const FileExerciser&) = delete;
  FileExerciser& operator=(const FileExerciser&) = delete;

  // Does something, and compares what can be seen of it. Failures are gtest's.
  void step() {
    // By weight.
    static const std::vector<std::pair<int, void (FileExerciser::*)()>> kinds = {
        {20, &FileExerciser::write},        {14, &FileExerciser::read},
        {12, &FileExerciser::write_mapped}, {10, &FileExerciser::read_mapped},
        {5, &FileExerciser::truncate},      {5, &FileExerciser::allocate},
        {6, &FileExerciser::punch_hole},    {6, &FileExerciser::zero_range},
        {6, &FileExerciser::copy_range},    {4, &FileExerciser::sync},
        {3, &FileExerciser::reopen},        {4, &FileExerciser::forget_cache},
        {5, &FileExerciser::write_direct},  {5, &FileExerciser::read_direct},
        {3, &FileExerciser::append},
    };
    int total = 0;
    for (const auto& kind : kinds) total += kind.first;
    auto choice = static_cast<int>(below(static_cast<size_t>(total)));
    for (const auto& [weight, run] : kinds) {
      if (choice < weight) {
        (this->*run)();
        break;
      }
      choice -= weight;
    }
    struct stat attributes {};
    ASSERT_EQ(fstat(fd_, &attributes), 0);
    ASSERT_EQ(static_cast<size_t>(attributes.st_size), model_.size());
  }

  void compare_whole() {
    note("read the whole file by another descriptor");
    const std::string content = read_whole_file(path_);
    ASSERT_TRUE(content == model_) << first_difference(model_, content);
  }

  const std::string& model() const { return model_; }
  std::string recent() const {
    std::string text;
    for (size_t i = history_.size() > 15 ? history_.size() - 15 : 0; i < history_.size(); ++i)
      text += std::to_string(i) + " " + history_[i] + "\n";
    return text;
  }

 private:
  size_t below(size_t limit) { return random_() % limit; }
  void note(const std::string& text) { history_.push_back(text); }
  void note(const std::string& text, const FileRange& range) {
    note(text + " " + std::to_string(range.offset) + "+" + std::to_string(range.length) + " of " +
         std::to_string(model_.size()));
  }

  // Often at the borders of pages, where most mistakes are made.
  size_t position(size_t limit) {
    size_t at = below(limit + 1);
    if (below(3) == 0) at = std::min(at / kFilePage * kFilePage + below(3), limit);
    return at;
  }
  FileRange range_within(size_t limit) {
    const size_t offset = position(limit);
    size_t length = below(4) == 0 ? below(kMaxLength) : below(2 * kFilePage);
    if (below(4) == 0) length = length / kFilePage * kFilePage;
    return {offset, std::min(length, limit - offset)};
  }
  FileRange pages_within(size_t limit) {
    const size_t pages = limit / kFilePage;
    const size_t first = below(pages + 1);
    return {first * kFilePage, std::min(below(8), pages - first) * kFilePage};
  }
  std::string random_bytes(size_t length) {
    std::string bytes(length, '\0');
    for (char& byte : bytes) byte = static_cast<char>('a' + below(26));
    return bytes;
  }

  void put(size_t offset, const std::string& bytes) {
    if (bytes.empty()) return;
    if (model_.size() < offset + bytes.size()) model_.resize(offset + bytes.size());
    model_.replace(offset, bytes.size(), bytes);
  }
  void zero(const FileRange& range) {
    const size_t end = std::min(range.end(), model_.size());
    if (range.offset < end)
      std::fill(model_.begin() + static_cast<long>(range.offset),
                model_.begin() + static_cast<long>(end), '\0');
  }

  void open_file(int flags) {
    fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC | flags, 0644);
    ASSERT_GE(fd_, 0) << std::strerror(errno);
    void* map = mmap(nullptr, kMaxFileSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    ASSERT_NE(map, MAP_FAILED) << std::strerror(errno);
    map_ = static_cast<char*>(map);
    if (!direct_) return;
    direct_fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
    ASSERT_GE(direct_fd_, 0) << std::strerror(errno);
  }
  void close_file() {
    if (direct_fd_ >= 0) close(direct_fd_);
    if (map_ != nullptr) munmap(map_, kMaxFileSize);
    if (fd_ >= 0) close(fd_);
    direct_fd_ = fd_ = -1;
    map_ = nullptr;
  }

  void write() {
    const FileRange range = range_within(kMaxFileSize);
    note("write", range);
    const std::string bytes = random_bytes(range.length);
    ASSERT_EQ(pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(range.offset)),
              static_cast<ssize_t>(bytes.size()));
    put(range.offset, bytes);
  }

  void append() {
    const std::string bytes = random_bytes(below(5000));
    if (model_.size() + bytes.size() > kMaxFileSize) return;
    note("append", {model_.size(), bytes.size()});
    const int fd = open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    ASSERT_GE(fd, 0) << std::strerror(errno);
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    close(fd);
    ASSERT_EQ(written, static_cast<ssize_t>(bytes.size()));
    put(model_.size(), bytes);
  }

  void read() {
    const FileRange range = range_within(kMaxFileSize);
    note("read", range);
    std::string bytes(range.length, '?');
    const ssize_t got = pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(range.offset));
    ASSERT_GE(got, 0) << std::strerror(errno);
    bytes.resize(static_cast<size_t>(got));
    compare(range, bytes);
  }

  void compare(const FileRange& range, const std::string& actual) {
    const std::string expected =
        range.offset < model_.size() ? model_.substr(range.offset, range.length) : std::string();
    ASSERT_TRUE(expected == actual) << first_difference(expected, actual);
  }

  void write_mapped() {
    const FileRange range = range_within(model_.size());
    note("write through the mapping", range);
    const std::string bytes = random_bytes(range.length);
    std::copy(bytes.begin(), bytes.end(), map_ + range.offset);
    put(range.offset, bytes);
    if (below(3) == 0) return;
    const int way = below(2) == 0 ? MS_ASYNC : MS_SYNC;
    ASSERT_EQ(msync(map_, kMaxFileSize, way), 0) << std::strerror(errno);
  }

  void read_mapped() {
    const FileRange range = range_within(model_.size());
    note("read through the mapping", range);
    compare(range, std::string(map_ + range.offset, range.length));
    // The rest of the last page is never anything but zeros.
    for (size_t at = model_.size(); at % kFilePage != 0 && at < kMaxFileSize; ++at)
      ASSERT_EQ(map_[at], '\0') << "at " << at << " behind the end, " << model_.size();
  }

  void truncate() {
    const size_t size = position(kMaxFileSize);
    note("truncate to", {size, 0});
    if (below(2) == 0) {
      ASSERT_EQ(ftruncate(fd_, static_cast<off_t>(size)), 0) << std::strerror(errno);
    } else {
      ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size)), 0) << std::strerror(errno);
    }
    model_.resize(size);
  }

  void change_blocks(int mode, const FileRange& range) {
    const int result =
        fallocate(fd_, mode, static_cast<off_t>(range.offset), static_cast<off_t>(range.length));
    ASSERT_EQ(result, 0) << std::strerror(errno);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) zero(range);
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && range.end() > model_.size())
      model_.resize(range.end());
  }
  void allocate() {
    const FileRange range = range_within(kMaxFileSize);
    if (range.length == 0) return;
    const int mode = below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0;
    note(mode != 0 ? "allocate, keeping the size," : "allocate", range);
    change_blocks(mode, range);
  }
  void punch_hole() {
    const FileRange range = range_within(kMaxFileSize);
    if (range.length == 0) return;
    note("punch a hole", range);
    change_blocks(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
  }
  void zero_range() {
    const FileRange range = range_within(kMaxFileSize);
    if (range.length == 0) return;
    const int mode = below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0;
    note(mode != 0 ? "zero, keeping the size," : "zero", range);
    change_blocks(FALLOC_FL_ZERO_RANGE | mode, range);
  }

  // Within the file; the two ranges do not overlap.
  void copy_range() {
    FileRange from = range_within(model_.size());
    const size_t to = position(kMaxFileSize);
    from.length = std::min(from.length, kMaxFileSize - to);
    if (to < from.end() && from.offset < to + from.length) return;
    note("copy to " + std::to_string(to), from);
    auto in = static_cast<off_t>(from.offset);
    auto out = static_cast<off_t>(to);
    const std::string bytes = model_.substr(from.offset, from.length);
    size_t left = from.length;
    while (left > 0) {
      const ssize_t copied = copy_file_range(fd_, &in, fd_, &out, left, 0);
      ASSERT_GT(copied, 0) << std::strerror(errno);
      left -= static_cast<size_t>(copied);
    }
    put(to, bytes);
  }

  void sync() {
    const bool data_only = below(2) == 0;
    note(data_only ? "fdatasync" : "fsync");
    ASSERT_EQ(data_only ? fdatasync(fd_) : fsync(fd_), 0) << std::strerror(errno);
  }

  void reopen() {
    const bool emptied = below(8) == 0;
    note(emptied ? "close, and open with O_TRUNC" : "close and open");
    close_file();
    open_file(emptied ? O_TRUNC : 0);
    if (emptied) model_.clear();
  }

  // What is clean is read from the server again.
  void forget_cache() {
    note("forget the cache");
    ASSERT_EQ(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED), 0);
  }

  void write_direct() {
    const FileRange range = pages_within(kMaxFileSize);
    if (!direct_ || range.length == 0) return;
    note("write directly", range);
    const std::string bytes = random_bytes(range.length);
    const PageBuffer buffer = page_buffer(range.length);
    std::copy(bytes.begin(), bytes.end(), buffer.get());
    ASSERT_EQ(pwrite(direct_fd_, buffer.get(), range.length, static_cast<off_t>(range.offset)),
              static_cast<ssize_t>(range.length))
        << std::strerror(errno);
    put(range.offset, bytes);
  }
  void read_direct() {
    const FileRange range = pages_within(kMaxFileSize);
    if (!direct_ || range.length == 0) return;
    note("read directly", range);
    const PageBuffer buffer = page_buffer(range.length);
    const ssize_t got =
        pread(direct_fd_, buffer.get(), range.length, static_cast<off_t>(range.offset));
    ASSERT_GE(got, 0) << std::strerror(errno);
    compare(range, std::string(buffer.get(), static_cast<size_t>(got)));
  }

  const std::string path_;
  std::mt19937_64 random_;
  const bool direct_;
  std::string model_;
  int fd_ = -1;
  int direct_fd_ = -1;
  char* map_ = nullptr;
  std::vector<std::string> history_;
};

}  // namespace walfs::test
