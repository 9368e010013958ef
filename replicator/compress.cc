#include "replicator/compress.h"

#include <zstd.h>

#include <memory>

namespace walfs {
namespace {

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// Low levels would look back for 1 MiB at most. What is shorter takes no more memory than it needs.
constexpr int kWindowLog = 23;

}  // namespace

Bytes compress(ByteView data, int level) {
  static thread_local std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  Bytes out(ZSTD_compressBound(data.size()));
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  const size_t size =
      ZSTD_compress2(context.get(), out.data(), out.size(), data.data(), data.size());
  out.resize(ZSTD_isError(size) ? 0 : size);
  return out;
}

Result<Bytes> decompress(const std::string& name, ByteView stored, uint64_t raw_size) {
  static thread_local std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  // zstd reaches about 1:32000 at the most; more than that is a lie about the size.
  if (raw_size > (stored.size() + 64) * 40000) {
    return Error{Errc::kDamaged, name + " is damaged: it announces more content than it can hold"};
  }
  Bytes out(raw_size);
  const size_t size =
      ZSTD_decompressDCtx(context.get(), out.data(), out.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) || size != raw_size) {
    return Error{Errc::kDamaged, name + " is damaged: its content cannot be decompressed"};
  }
  return out;
}

}  // namespace walfs
