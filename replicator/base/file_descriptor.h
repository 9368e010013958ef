// FileDescriptor: owns one descriptor of the system and closes it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <utility>

namespace walfs {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) { set(fd); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() {
    if (fd_ >= 0) owned_.fetch_sub(1, std::memory_order_relaxed);
    return std::exchange(fd_, -1);
  }
  void reset(int fd = -1) {
    if (const int old = release(); old >= 0) ::close(old);
    set(fd);
  }

  // How many descriptors all objects of the process own.
  static int64_t owned() { return owned_.load(std::memory_order_relaxed); }

 private:
  void set(int fd) {
    fd_ = fd;
    if (fd >= 0) owned_.fetch_add(1, std::memory_order_relaxed);
  }

  int fd_ = -1;
  static inline std::atomic<int64_t> owned_{0};
};

}  // namespace walfs
