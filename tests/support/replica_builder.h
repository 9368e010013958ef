// Replicas made object by object: segments by the real writer, snapshots of a model's states, the
// epochs and volume.json.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/epoch.h"
#include "replicator/keys.h"
#include "replicator/log.h"
#include "replicator/segment.h"
#include "replicator/snapshot.h"
#include "tests/support/log_model.h"
#include "tests/support/memory_store.h"

namespace walfs::test {

inline Bytes read_fd(int fd) {
  Bytes bytes(static_cast<size_t>(::lseek(fd, 0, SEEK_END)));
  EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

inline Bytes make_segment(const std::vector<Point>& points) {
  const FileDescriptor file(::memfd_create("segment", MFD_CLOEXEC));
  SegmentWriter writer(file.get());
  for (const Point& point : points) EXPECT_TRUE(writer.add(point).ok());
  EXPECT_TRUE(writer.finish().ok());
  return read_fd(file.get());
}

inline ReadObjectRange read_from_bytes(ByteView object) {
  return [object](uint64_t offset, uint64_t size) -> Result<Bytes> {
    if (offset > object.size() || size > object.size() - offset) {
      return Error{Errc::kDamaged, "the object ends before the range"};
    }
    const ByteView part = object.subspan(offset, size);
    return Bytes(part.begin(), part.end());
  };
}

inline Epoch make_epoch(uint64_t number, Position parent = {}, bool fresh = true) {
  Epoch epoch;
  epoch.number = number;
  epoch.parent = parent;
  epoch.fresh = fresh;
  epoch.holder = "host:/srv/app";
  epoch.token = "token" + std::to_string(number);
  epoch.time_ns = 1'700'000'000'000'000'000;
  return epoch;
}

// One epoch from the beginning, with the states after each point.
class ReplicaBuilder {
 public:
  explicit ReplicaBuilder(MemoryStore& store, uint32_t seed) : store_(store), log_(seed) {
    EXPECT_TRUE(create_volume(store_, "volume").ok());
    EXPECT_TRUE(claim_epoch(store_, make_epoch(1)).ok());
    states_.emplace(start(), log_.state());
  }

  RandomLog& log() { return log_; }
  Position start() const { return Position::of(1, 0); }
  Position last() const { return states_.rbegin()->first; }
  const Model& state(Position position) const { return states_.at(position); }
  static int64_t time_of(Position position) {
    return 1'700'000'000'000'000'000 + static_cast<int64_t>(position.sequence()) * 1'000'000'000;
  }

  // The next point by chance, into the open segment.
  void add() { add(log_.next()); }
  void add_partial() {
    Point point = log_.next();
    point.partial = true;
    add(std::move(point));
  }
  bool is_partial(Position position) const { return partial_.contains(position); }
  // The last point up to there that is not partial.
  Position complete_before(Position position) const {
    while (is_partial(position)) position = Position{position.value - 1};
    return position;
  }
  void add(Point point) {
    point.position = last().next();
    point.time_ns = time_of(point.position);
    Model state = states_.rbegin()->second;
    state.apply(point);
    states_.emplace(point.position, std::move(state));
    if (point.partial) partial_.insert(point.position);
    open_.push_back(std::move(point));
  }
  void seal() {
    if (open_.empty()) return;
    const PositionRange range{open_.front().position, open_.back().position};
    store_.set_object(segment_key(range), make_segment(open_));
    segment_ends_.push_back(range.last);
    open_.clear();
  }
  const std::vector<Position>& segment_ends() const { return segment_ends_; }

  // A snapshot whose content is read slice by slice at any time between first and last.
  Snapshot make_snapshot(Position first, Position last_read) {
    Snapshot snapshot;
    snapshot.range = {first, last_read};
    snapshot.time_ns = time_of(last_read);
    const Model& end = states_.at(last_read);
    std::map<Sha256Digest, uint32_t> chunks;
    for (const auto& [id, file] : end.files) {
      SnapshotFile entry;
      entry.id = id;
      entry.attributes = file.attributes;
      entry.block_size = file.block_size;
      entry.size = file.content.size();
      entry.database = file.database;
      entry.checksum = model_checksum(file);
      if (states_.at(first).files.contains(id)) read_fuzzily(entry, first, snapshot, chunks);
      snapshot.files.push_back(std::move(entry));
    }
    for (const auto& [name, child] : end.entries) {
      snapshot.entries.push_back({name.first, name.second, child});
    }
    return snapshot;
  }
  void put_snapshot(Position first, Position last_read) {
    const Snapshot snapshot = make_snapshot(first, last_read);
    store_.set_object(snapshot_key(snapshot.range), encode_snapshot(snapshot));
  }

 private:
  void read_fuzzily(SnapshotFile& entry, Position first, Snapshot& snapshot,
                    std::map<Sha256Digest, uint32_t>& chunks) {
    if (entry.block_size == 0) return;
    const uint64_t slice = entry.block_size * (1 + log_.below(4));
    for (uint64_t at = 0; at < 40 * uint64_t{4096}; at += slice) {
      const uint64_t when = first.value + log_.below(snapshot.range.last.value - first.value + 1);
      const auto found = states_.at({when}).files.find(entry.id);
      if (found == states_.at({when}).files.end()) continue;
      const Bytes& content = found->second.content;
      if (at >= content.size()) continue;
      const uint64_t size = std::min<uint64_t>(slice, content.size() - at);
      const auto begin = content.begin() + static_cast<std::ptrdiff_t>(at);
      const Bytes bytes(begin, begin + static_cast<std::ptrdiff_t>(size));
      const ChunkRef chunk{sha256(bytes), size};
      const auto [number, added] =
          chunks.emplace(chunk.digest, static_cast<uint32_t>(snapshot.chunks.size()));
      if (added) {
        snapshot.chunks.push_back(chunk);
        store_.set_object(chunk_key(chunk.digest), encode_chunk(bytes));
      }
      entry.extents.push_back({at, size, number->second, 0});
    }
  }

  MemoryStore& store_;
  RandomLog log_;
  std::map<Position, Model> states_;
  std::set<Position> partial_;
  std::vector<Point> open_;
  std::vector<Position> segment_ends_;
};

}  // namespace walfs::test
