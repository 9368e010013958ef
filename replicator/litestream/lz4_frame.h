// Decompresses one LZ4 frame that arrives in parts. The only place that knows liblz4's frames;
// pure.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

struct LZ4F_dctx_s;

namespace walfs::litestream {

using Sink = std::function<Status(ByteView)>;

class Lz4Frame {
 public:
  // `key` names the object in messages.
  explicit Lz4Frame(std::string key);
  ~Lz4Frame();
  Lz4Frame(const Lz4Frame&) = delete;
  Lz4Frame& operator=(const Lz4Frame&) = delete;

  // Hands on what these bytes give. The memory in use does not depend on what the frame claims.
  // kDamaged if a checksum fails or something follows the frame.
  Status add(ByteView stored, const Sink& sink);
  // After the last bytes: kDamaged if the frame has not ended. Only now the checksum over all of
  // its content has been compared.
  Status finish() const;

 private:
  Error damaged(const std::string& what) const;
  const std::string key_;
  LZ4F_dctx_s* context_ = nullptr;
  Bytes out_;
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace walfs::litestream
