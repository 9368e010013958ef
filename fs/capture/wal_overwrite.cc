#include "fs/capture/wal_overwrite.h"

#include <algorithm>
#include <array>

#include "replicator/base/wal_format.h"

namespace walfs {
namespace {

// Where `data` first differs from what is there; nothing up to the end of the log.
std::optional<uint64_t> first_change(const ReadAt& read, uint64_t offset, ByteView data) {
  std::array<uint8_t, 8192> old;
  for (size_t done = 0; done < data.size();) {
    const size_t want = std::min(old.size(), data.size() - done);
    const size_t got = read(offset + done, std::span(old).first(want));
    const auto end = old.begin() + static_cast<std::ptrdiff_t>(got);
    const auto at =
        std::mismatch(old.begin(), end, data.begin() + static_cast<std::ptrdiff_t>(done)).first;
    if (at != end) return offset + done + static_cast<uint64_t>(at - old.begin());
    if (got < want) return std::nullopt;
    done += got;
  }
  return std::nullopt;
}

}  // namespace

bool wal_write_destroys(const ReadAt& read, uint64_t offset, ByteView data) {
  const auto change = first_change(read, offset, data);
  if (!change) return false;
  std::array<uint8_t, kWalHeaderSize> header_bytes{};
  const size_t size = read(0, header_bytes);
  const auto header = parse_wal_header(ByteView(header_bytes).first(size));
  if (!header) return false;
  if (*change < kWalHeaderSize) return true;
  const uint64_t frame_size = uint64_t{header->page_size} + kWalFrameHeaderSize;
  const uint64_t frame = kWalHeaderSize + (*change - kWalHeaderSize) / frame_size * frame_size;
  std::array<uint8_t, kWalFrameHeaderSize> frame_bytes{};
  if (read(frame, frame_bytes) < frame_bytes.size()) return false;
  return parse_wal_frame_header(frame_bytes).salts == header->salts;
}

}  // namespace walfs
