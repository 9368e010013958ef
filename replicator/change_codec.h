// The bytes of points in a segment's index and of attributes in snapshots (FORMAT.md, "Points").
#pragma once

#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/change.h"

namespace walfs {

inline constexpr size_t kNameMax = 255;
inline constexpr size_t kSymlinkMax = 65536;
inline constexpr size_t kXattrValueMax = 65536;
inline constexpr size_t kXattrCountMax = 4096;

void encode_attributes(const Attributes& attributes, ByteWriter& out);
// Faults are reported through in.ok().
Attributes decode_attributes(ByteReader& in);

// A name that may stand in a directory: not empty, "." or "..", no '/' and no NUL, at most 255
// bytes.
bool valid_name(std::string_view name);

// Data offsets are not stored: blocks' bytes follow each other in the order of the blocks.
// `data_offset` is where the point's first byte lies in the segment's data, and is moved on behind
// its last byte.
void encode_point(const Point& point, ByteWriter& out);
Point decode_point(ByteReader& in, uint64_t& data_offset);

}  // namespace walfs
