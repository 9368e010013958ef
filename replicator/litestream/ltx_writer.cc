#include "replicator/litestream/ltx_writer.h"

#include <lz4.h>

#include <algorithm>

#include "replicator/base/file_io.h"
#include "replicator/litestream/crc64.h"

namespace walfs::litestream {
namespace {

constexpr int64_t kNsInMs = 1'000'000;

void put_be(Bytes& out, uint64_t value, size_t size) {
  for (size_t i = size; i-- > 0;) out.push_back(static_cast<uint8_t>(value >> 8 * i));
}

Bytes encode_header(const LtxHeader& header) {
  Bytes out = {'L', 'T', 'X', '1'};
  put_be(out, kLtxNoChecksums, 4);
  put_be(out, header.page_size, 4);
  put_be(out, header.pages, 4);
  put_be(out, header.first, 8);
  put_be(out, header.last, 8);
  put_be(out, static_cast<uint64_t>(header.time_ns / kNsInMs), 8);
  out.resize(kLtxHeaderSize);
  return out;
}

}  // namespace

Result<LtxWriter> LtxWriter::begin(FileDescriptor file, std::string name, int directory,
                                   const LtxHeader& header) {
  WALFS_ASSIGN(FileDescriptor index, open_unnamed(directory, "for the index of pages"));
  LtxWriter writer(std::move(file), std::move(name), std::move(index));
  writer.block_.resize(static_cast<size_t>(LZ4_compressBound(static_cast<int>(header.page_size))));
  WALFS_TRY(writer.put(encode_header(header)));
  return writer;
}

Status LtxWriter::put(ByteView bytes) {
  checksum_ = crc64_iso(checksum_, bytes);
  return file_.add(bytes);
}

Status LtxWriter::add_page(uint32_t page, ByteView content) {
  const uint64_t begin = file_.size();
  const int size = LZ4_compress_default(
      reinterpret_cast<const char*>(content.data()), reinterpret_cast<char*>(block_.data()),
      static_cast<int>(content.size()), static_cast<int>(block_.size()));
  if (size <= 0) return Error{Errc::kIo, "LZ4 cannot compress a page of " + file_.name()};
  Bytes header;
  put_be(header, page, 4);
  put_be(header, kLtxPageHasSize, 2);
  put_be(header, static_cast<uint64_t>(size), 4);
  WALFS_TRY(put(header));
  // The checksum is that of the page itself.
  checksum_ = crc64_iso(checksum_, content);
  WALFS_TRY(file_.add(ByteView(block_).first(static_cast<size_t>(size))));
  ByteWriter entry;
  entry.varint(page);
  entry.varint(begin);
  entry.varint(file_.size() - begin);
  return index_.add(entry.data());
}

Status LtxWriter::put_index() {
  const Bytes end = {0};
  WALFS_TRY(index_.add(end));
  WALFS_TRY(index_.flush());
  for (uint64_t at = 0; at < index_.size(); at += kIoSize) {
    const size_t size = std::min<uint64_t>(kIoSize, index_.size() - at);
    WALFS_ASSIGN(const Bytes part, read_at(index_.fd(), at, size, index_.name()));
    if (part.size() != size) return Error{Errc::kIo, index_.name() + " is not all there any more"};
    WALFS_TRY(put(part));
  }
  Bytes size;
  put_be(size, index_.size(), 8);
  return put(size);
}

Status LtxWriter::finish() {
  WALFS_TRY(put(Bytes(kLtxPageHeaderSize)));
  WALFS_TRY(put_index());
  WALFS_TRY(put(Bytes(8)));  // Instead of the checksum of the database.
  Bytes checksum;
  put_be(checksum, checksum_ | kLtxChecksumFlag, 8);
  WALFS_TRY(file_.add(checksum));
  return file_.flush();
}

}  // namespace walfs::litestream
