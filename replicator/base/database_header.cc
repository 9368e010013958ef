#include "replicator/base/database_header.h"

#include <bit>
#include <string_view>

namespace walfs {
namespace {

constexpr std::string_view kDatabaseMagic{"SQLite format 3\0", 16};
constexpr uint32_t kUsablePageSizeMin = 480;

}  // namespace

bool is_page_size(uint32_t size) {
  return size >= 512 && size <= 65536 && std::has_single_bit(size);
}

std::optional<DatabaseHeader> parse_database_header(ByteView first_100_bytes) {
  const ByteView data = first_100_bytes;
  if (data.size() < kDatabaseHeaderSize) return std::nullopt;
  if (as_text(data.first(kDatabaseMagic.size())) != kDatabaseMagic) return std::nullopt;
  DatabaseHeader header;
  const uint16_t stored_size = get_be16(data, 16);
  header.page_size = stored_size == 1 ? 65536 : stored_size;
  header.write_version = data[18];
  header.read_version = data[19];
  header.reserved_bytes = data[20];
  if (!is_page_size(header.page_size) || header.read_version > 2) return std::nullopt;
  if (header.page_size - header.reserved_bytes < kUsablePageSizeMin) return std::nullopt;
  if (data[21] != 64 || data[22] != 32 || data[23] != 32) return std::nullopt;
  header.change_counter = get_be32(data, 24);
  const uint32_t page_count = get_be32(data, 28);
  if (page_count != 0 && get_be32(data, 92) == header.change_counter)
    header.page_count = page_count;
  return header;
}

}  // namespace walfs
