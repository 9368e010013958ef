#include "replicator/litestream/lz4_frame.h"

#include <lz4frame.h>

#include <cstdlib>

namespace walfs::litestream {
namespace {

constexpr size_t kOutSize = 256 << 10;
constexpr std::string_view kAgeMagic = "age-encryption.org/";

}  // namespace

Lz4Frame::Lz4Frame(std::string key) : key_(std::move(key)), out_(kOutSize) {
  if (LZ4F_isError(LZ4F_createDecompressionContext(&context_, LZ4F_VERSION)) != 0) std::abort();
}

Lz4Frame::~Lz4Frame() {
  LZ4F_freeDecompressionContext(context_);
}

Error Lz4Frame::damaged(const std::string& what) const {
  return Error{Errc::kDamaged, key_ + " is damaged: " + what};
}

Status Lz4Frame::add(ByteView stored, const Sink& sink) {
  if (!begun_ && as_text(stored).starts_with(kAgeMagic)) {
    return Error{Errc::kUnsupported,
                 key_ +
                     " is encrypted with age, which walfs does not read; restore it with "
                     "Litestream and its key"};
  }
  begun_ = true;
  while (true) {
    if (ended_) return stored.empty() ? Status() : damaged("something follows its end");
    size_t taken = stored.size();
    size_t given = out_.size();
    const size_t wanted =
        LZ4F_decompress(context_, out_.data(), &given, stored.data(), &taken, nullptr);
    if (LZ4F_isError(wanted) != 0)
      return damaged(std::string("LZ4 says ") + LZ4F_getErrorName(wanted));
    ended_ = wanted == 0;
    stored = stored.subspan(taken);
    if (given > 0) WALFS_TRY(sink(ByteView(out_).first(given)));
    // A buffer that was filled may hide more that waits inside.
    if (!ended_ && stored.empty() && given < out_.size()) return {};
  }
}

Status Lz4Frame::finish() const {
  return ended_ ? Status() : damaged("it ends too early");
}

}  // namespace walfs::litestream
