// SHA-256 and HMAC-SHA-256 by libcrypto, as the signing of S3 requests needs them. Pure.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "replicator/base/bytes.h"

namespace walfs {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(ByteView data);
  // Ends the computation.
  Sha256Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256Digest sha256(ByteView data);
Sha256Digest hmac_sha256(ByteView key, ByteView data);
// Lower case.
std::string to_hex(ByteView data);

}  // namespace walfs
