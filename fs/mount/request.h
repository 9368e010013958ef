// The raw request that this thread is serving: what the kernel says and libfuse does not pass on.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

namespace walfs {

class CurrentRequest {
 public:
  // While it lives, the functions below look at this request.
  CurrentRequest(const uint8_t* data, size_t size) {
    data_ = data;
    size_ = size;
  }
  ~CurrentRequest() { data_ = nullptr; }
  CurrentRequest(const CurrentRequest&) = delete;
  CurrentRequest& operator=(const CurrentRequest&) = delete;

  // The body of the request if it has this opcode and is long enough.
  template <typename Body>
  static std::optional<Body> body(uint32_t opcode) {
    fuse_in_header header;
    if (data_ == nullptr || size_ < sizeof header + sizeof(Body)) return std::nullopt;
    std::memcpy(&header, data_, sizeof header);
    if (header.opcode != opcode) return std::nullopt;
    Body body;
    std::memcpy(&body, data_ + sizeof header, sizeof body);
    return body;
  }

  // Work that may take long: this thread does it once the callback has returned, while another
  // waits at the device.
  static void do_afterwards(std::function<void()> work) { afterwards_ = std::move(work); }
  static std::function<void()> take_afterwards() { return std::exchange(afterwards_, nullptr); }

 private:
  static inline thread_local std::function<void()> afterwards_;
  static inline thread_local const uint8_t* data_ = nullptr;
  static inline thread_local size_t size_ = 0;
};

}  // namespace walfs
