#include "replicator/change_codec.h"

namespace walfs {
namespace {

enum ChangeTag : uint8_t {
  kTagSetFile = 1,
  kTagDropFile = 2,
  kTagSetEntry = 3,
  kTagSetContent = 4
};
enum ContentFlag : uint8_t { kReset = 1, kDatabase = 2, kHasChecksum = 4 };

void encode(const SetFile& change, ByteWriter& out) {
  out.u8(kTagSetFile);
  out.varint(change.id);
  encode_attributes(change.attributes, out);
}

void encode(const DropFile& change, ByteWriter& out) {
  out.u8(kTagDropFile);
  out.varint(change.id);
}

void encode(const SetEntry& change, ByteWriter& out) {
  out.u8(kTagSetEntry);
  out.varint(change.parent);
  out.string(change.name);
  out.varint(change.child);
}

void encode(const SetContent& change, ByteWriter& out) {
  out.u8(kTagSetContent);
  out.varint(change.id);
  out.u8(static_cast<uint8_t>((change.reset ? kReset : 0) | (change.database ? kDatabase : 0) |
                              (change.checksum ? kHasChecksum : 0)));
  out.varint(change.block_size);
  out.varint(change.size);
  if (change.checksum) out.u64(*change.checksum);
  out.varint(change.blocks.size());
  uint64_t next = 0;
  for (const BlockChange& block : change.blocks) {
    out.varint(block.index - next);
    out.u64(block.hash);
    next = block.index + 1;
  }
}

SetContent decode_content(ByteReader& in, uint64_t& data_offset) {
  SetContent change;
  change.id = in.varint();
  const uint8_t flags = in.u8();
  if ((flags & ~(kReset | kDatabase | kHasChecksum)) != 0) in.fail();
  change.reset = (flags & kReset) != 0;
  change.database = (flags & kDatabase) != 0;
  const uint64_t block_size = in.varint();
  if (block_size < kBlockSizeMin || block_size > kBlockSizeMax) in.fail();
  change.block_size = static_cast<uint32_t>(block_size);
  change.size = in.varint();
  if (change.size > uint64_t{INT64_MAX}) in.fail();
  if ((flags & kHasChecksum) != 0) change.checksum = in.u64();
  const uint64_t count = in.varint();
  if (!in.ok() || count > in.remaining() / 9) {  // A block takes nine bytes at least.
    in.fail();
    return change;
  }
  change.blocks.reserve(static_cast<size_t>(count));
  uint64_t next = 0;
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    BlockChange block;
    const uint64_t gap = in.varint();
    block.index = next + gap;
    block.hash = in.u64();
    if (gap > INT64_MAX || block.index > change.size / change.block_size ||
        block.hash == kUnknownHash) {
      in.fail();
    }
    const uint64_t stored = stored_block_size(block.index, change.block_size, change.size);
    if (stored == 0) in.fail();
    block.data_offset = data_offset;
    if (block.hash != kZeroBlockHash) data_offset += stored;
    next = block.index + 1;
    change.blocks.push_back(block);
  }
  return change;
}

Change decode_change(ByteReader& in, uint64_t& data_offset) {
  switch (in.u8()) {
    case kTagSetFile: {
      SetFile change;
      change.id = in.varint();
      change.attributes = decode_attributes(in);
      if (change.id == kNoFile) in.fail();
      return change;
    }
    case kTagDropFile:
      return DropFile{in.varint()};
    case kTagSetEntry: {
      SetEntry change;
      change.parent = in.varint();
      change.name = in.string(kNameMax);
      change.child = in.varint();
      if (!valid_name(change.name)) in.fail();
      return change;
    }
    case kTagSetContent:
      return decode_content(in, data_offset);
    default:
      in.fail();
      return DropFile{};
  }
}

}  // namespace

void encode_attributes(const Attributes& attributes, ByteWriter& out) {
  out.u8(static_cast<uint8_t>(attributes.type));
  out.varint(attributes.mode);
  out.varint(attributes.uid);
  out.varint(attributes.gid);
  out.varint(attributes.rdev);
  out.u64(static_cast<uint64_t>(attributes.mtime_ns));
  out.string(attributes.symlink_target);
  out.varint(attributes.xattrs.size());
  for (const auto& [name, value] : attributes.xattrs) {
    out.string(name);
    out.string(value);
  }
}

Attributes decode_attributes(ByteReader& in) {
  Attributes attributes;
  const uint8_t type = in.u8();
  const uint64_t mode = in.varint();
  const uint64_t uid = in.varint();
  const uint64_t gid = in.varint();
  if (type > static_cast<uint8_t>(FileType::kBlock) || mode > 07777 || uid > UINT32_MAX ||
      gid > UINT32_MAX) {
    in.fail();
  }
  attributes.type = static_cast<FileType>(type);
  attributes.mode = static_cast<uint32_t>(mode);
  attributes.uid = static_cast<uint32_t>(uid);
  attributes.gid = static_cast<uint32_t>(gid);
  attributes.rdev = in.varint();
  attributes.mtime_ns = static_cast<int64_t>(in.u64());
  attributes.symlink_target = in.string(kSymlinkMax);
  const uint64_t count = in.varint();
  if (count > kXattrCountMax) in.fail();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    std::string name(in.string(kNameMax));
    std::string value(in.string(kXattrValueMax));
    attributes.xattrs.emplace_back(std::move(name), std::move(value));
  }
  return attributes;
}

bool valid_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= kNameMax &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

void encode_point(const Point& point, ByteWriter& out) {
  out.u64(point.position.value);
  out.u64(static_cast<uint64_t>(point.time_ns));
  out.varint(point.changes.size());
  for (const Change& change : point.changes) {
    std::visit([&](const auto& one) { encode(one, out); }, change);
  }
}

Point decode_point(ByteReader& in, uint64_t& data_offset) {
  Point point;
  point.position = Position{in.u64()};
  point.time_ns = static_cast<int64_t>(in.u64());
  const uint64_t count = in.varint();
  if (count > in.remaining()) in.fail();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    point.changes.push_back(decode_change(in, data_offset));
  }
  return point;
}

}  // namespace walfs
