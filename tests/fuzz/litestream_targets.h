// What the fuzzer of Litestream's formats checks, usable without libFuzzer: the function takes any
// bytes and ends the process when a promise of the readers is broken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "replicator/litestream/ltx_stream.h"
#include "replicator/litestream/lz4_frame.h"
#include "replicator/litestream/names.h"
#include "replicator/litestream/wal_stream.h"

namespace walfs::fuzz {

inline void promise_of_litestream(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// A write-ahead log in two parts: the same frames as in one, and no more than there are bytes for.
inline void check_litestream_log(ByteView log, size_t part) {
  constexpr uint32_t kPageSize = 512;
  size_t bytes = 0;
  litestream::WalStream stream(kPageSize, [&](const WalFrameHeader& header, ByteView frame) {
    promise_of_litestream(header.page != 0, "a frame has a page");
    promise_of_litestream(frame.size() == kPageSize + kWalFrameHeaderSize, "a frame has its size");
    bytes += frame.size();
    return Status();
  });
  if (stream.add(log.first(part), "first").ok()) (void)stream.add(log.subspan(part), "second").ok();
  promise_of_litestream(bytes + kWalHeaderSize <= std::max(log.size(), kWalHeaderSize),
                        "frames lie in the log");
  promise_of_litestream(stream.committed_frames() <= stream.frames(), "commits are frames");
  promise_of_litestream((stream.committed_frames() == 0) == (stream.database_pages() == 0),
                        "a commit says how large the database is");
}

// An LTX file in two parts.
inline void check_ltx_file(ByteView file, size_t part) {
  uint32_t before = 0;
  const litestream::LtxStream* reading = nullptr;
  litestream::LtxStream stream("file", [&](uint32_t page, ByteView content) {
    promise_of_litestream(page > before && page <= reading->header()->pages, "pages ascend");
    promise_of_litestream(content.size() == reading->header()->page_size, "a page has its size");
    before = page;
    return Status();
  });
  reading = &stream;
  if (stream.add(file.first(part)).ok() && stream.add(file.subspan(part)).ok() &&
      stream.finish().ok())
    promise_of_litestream(stream.header().has_value(), "a whole file has a header");
}

// As a stored object, as a log, as an LTX file, and as a key.
inline void check_litestream(ByteView bytes) {
  const size_t part = bytes.empty() ? 0 : bytes[bytes.size() - 1] % (bytes.size() + 1);
  litestream::Lz4Frame frame("object");
  Bytes content;
  const litestream::Sink keep = [&](ByteView more) -> Status {
    if (content.size() > (1 << 20)) return Error{Errc::kCancelled, "that is enough"};
    content.insert(content.end(), more.begin(), more.end());
    return {};
  };
  if (frame.add(bytes.first(part), keep).ok() && frame.add(bytes.subspan(part), keep).ok() &&
      frame.finish().ok())
    check_litestream_log(content, content.size() / 2);
  check_litestream_log(bytes, part);
  check_ltx_file(bytes, part);
  if (const auto name = litestream::parse_object_name(as_text(bytes)))
    promise_of_litestream(name->generation.size() == 16, "a generation has its name");
}

}  // namespace walfs::fuzz
