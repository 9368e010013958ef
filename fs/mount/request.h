// The raw request that this thread is serving: what the kernel says and libfuse does not pass on.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

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

 private:
  static inline thread_local const uint8_t* data_ = nullptr;
  static inline thread_local size_t size_ = 0;
};

}  // namespace walfs
