#include "replicator/verify.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "replicator/replica.h"
#include "replicator/restore_plan.h"

namespace walfs {
namespace {

// Whether the snapshot is a state by itself, without any log.
bool is_point(const StoredObject& snapshot) {
  return snapshot.range.first == snapshot.range.last;
}

class Verifier {
 public:
  explicit Verifier(Store& store) : store_(store) {}

  void route(const Route& route) {
    auto snapshot = check_snapshot(route.snapshot);
    bool leads = snapshot.has_value();
    if (leads && is_point(route.snapshot)) points_.insert(route.snapshot.range.last);
    PlanBuilder builder(snapshot ? std::move(*snapshot) : Snapshot(), {});
    // Behind damage nothing can be restored, but what else is damaged is to be known.
    for (const StoredObject& segment : route.segments) {
      if (failure_) return;
      const auto index = check_segment(segment);
      leads = leads && index;
      if (leads) {
        builder.add(*index);
        note_restorable(*index, route.snapshot.range.last);
      }
      if (segment.range.last >= route.snapshot.range.last) note_in_log(segment.range, leads);
    }
    if (!snapshot || failure_) return;
    auto plan = builder.finish();
    if (!plan.ok()) return note(plan.error());
    if (auto paths = plan_paths(*plan); !paths.ok()) return note(paths.error());
    check_state(*plan);
  }

  void stranded(const std::vector<StoredObject>& segments) {
    Position before;
    for (const StoredObject& segment : segments) {
      if (segment.range.first.sequence() != before.sequence() + 1 || before == Position())
        note({Errc::kDamaged,
              "the log has a gap before " + segment_key(segment.range, segment.level)});
      note_in_log(segment.range, /*restorable=*/false);
      before = segment.range.last;
    }
  }

  // kRetry, kDenied and the like: the store could not be read. Nothing is known then.
  const std::optional<Error>& failure() const { return failure_; }
  VerifyReport take() {
    report_.points = points_.size();
    for (const auto& [first, segment] : in_log_) {
      if (segment.restorable) continue;
      auto& lost = report_.lost;
      if (!lost.empty() && lost.back().last.next() == first) {
        lost.back().last = segment.last;
      } else {
        lost.push_back({first, segment.last});
      }
    }
    return std::move(report_);
  }

 private:
  // Several routes may meet the same damage. What the store does not deliver is none, and whoever
  // went on would wait for each object in turn.
  void note(const Error& error) {
    const bool is_damage = error.code == Errc::kDamaged || error.code == Errc::kNothingThere ||
                           error.code == Errc::kUnsupported;
    if (!is_damage && !failure_) failure_ = error;
    if (is_damage && noted_.insert(error.message).second) report_.damaged.push_back(error.message);
  }

  Result<Bytes> read_chunk(const ChunkRef& chunk) {
    const std::string key = chunk_key(chunk.digest);
    WALFS_ASSIGN(const Bytes object, store_.get(key, kChunkSizeMax * 2));
    report_.bytes += object.size();
    return decode_chunk(key, chunk, object);
  }

  bool check_chunk(const ChunkRef& chunk) {
    const auto [known, added] = whole_chunks_.emplace(chunk.digest, false);
    if (!added) return known->second;
    ++report_.objects;
    const auto content = read_chunk(chunk);
    if (!content.ok()) note(content.error());
    return known->second = content.ok();
  }

  // Nothing if it, or one of its chunks, is damaged.
  std::optional<Snapshot> check_snapshot(const StoredObject& stored) {
    ++report_.objects;
    auto snapshot = load_snapshot(store_, stored);
    if (!snapshot.ok()) {
      note(snapshot.error());
      return std::nullopt;
    }
    report_.bytes += stored.size;
    bool whole = true;
    for (const ChunkRef& chunk : snapshot->chunks) {
      if (failure_) break;
      whole = check_chunk(chunk) && whole;
    }
    if (!whole) return std::nullopt;
    return *std::move(snapshot);
  }

  // Nothing if it is damaged.
  std::optional<SegmentIndex> check_segment(const StoredObject& segment) {
    ++report_.objects;
    auto index = load_segment_index(store_, segment);
    if (!index.ok()) {
      note(index.error());
      return std::nullopt;
    }
    if (!check_frames(segment, *index)) return std::nullopt;
    return *std::move(index);
  }

  void note_restorable(const SegmentIndex& index, Position usable_from) {
    for (const Point& point : index.points)
      if (!point.partial && point.position >= usable_from) points_.insert(point.position);
  }

  // Another route may lead to what this one does not.
  void note_in_log(PositionRange range, bool restorable) {
    InLog& segment = in_log_[range.first];
    segment.last = range.last;
    segment.restorable = segment.restorable || restorable;
  }

  bool check_frames(const StoredObject& segment, const SegmentIndex& index) {
    const auto [known, added] = whole_segments_.emplace(segment.range.first, false);
    if (added) known->second = read_frames(segment_key(segment.range, segment.level), index);
    return known->second;
  }

  bool read_frames(const std::string& key, const SegmentIndex& index) {
    for (const auto& frame : index.frames) {
      auto stored = store_.get_range(key, {frame.offset, frame.stored_size});
      auto content =
          stored.ok() ? decode_frame(key, frame, *stored) : Result<Bytes>(stored.error());
      if (!content.ok()) {
        note(content.error());
        return false;
      }
      report_.bytes += frame.stored_size;
      if (!check_blocks(key, index, frame, *content)) return false;
    }
    return true;
  }

  bool check_blocks(const std::string& key, const SegmentIndex& index,
                    const SegmentIndex::Frame& frame, const Bytes& content) {
    for (const Point& point : index.points) {
      for (const Change& change : point.changes) {
        const auto* set = std::get_if<SetContent>(&change);
        if (set == nullptr) continue;
        for (const BlockChange& block : set->blocks) {
          if (block.hash == kZeroBlockHash || block.data_offset < frame.data_start ||
              block.data_offset >= frame.data_start + frame.raw_size) {
            continue;
          }
          const uint64_t size = stored_block_size(block.index, set->block_size, set->size);
          const ByteView data =
              ByteView(content).subspan(block.data_offset - frame.data_start, size);
          if (block_hash(block.index, data, set->block_size) == block.hash) continue;
          note({Errc::kDamaged, key + " is damaged: a block fails its checksum"});
          return false;
        }
      }
    }
    return true;
  }

  // The sum of all blocks must be the checksum that the writer recorded; blocks of chunks are
  // hashed from their bytes.
  void check_state(const RestorePlan& plan) {
    for (const auto& [id, file] : plan.files) {
      if (!file.checksum || file.block_size == 0) continue;
      uint64_t sum = 0;
      for (const auto& [index, place] : file.blocks) sum += place.hash;
      for (const Extent& extent : file.extents) {
        auto content = cached_chunk(plan.chunks[extent.chunk]);
        if (!content.ok()) return note(content.error());
        for (uint64_t done = 0; done < extent.size; done += file.block_size) {
          const uint64_t offset = extent.file_offset + done;
          const uint64_t block = offset / file.block_size;
          if (offset >= file.size || block >= file.base_limit || file.blocks.contains(block))
            continue;
          const uint64_t size =
              std::min({uint64_t{file.block_size}, extent.size - done, file.size - offset});
          sum += block_hash(block, ByteView(**content).subspan(extent.chunk_offset + done, size),
                            file.block_size);
        }
      }
      if (sum != *file.checksum) {
        note({Errc::kDamaged, "file " + std::to_string(id) +
                                  " does not have its checksum at position " +
                                  plan.position.to_string()});
      }
    }
  }

  Result<const Bytes*> cached_chunk(const ChunkRef& chunk) {
    if (cached_digest_ != chunk.digest || cached_.empty()) {
      WALFS_ASSIGN(cached_, read_chunk(chunk));
      cached_digest_ = chunk.digest;
    }
    return static_cast<const Bytes*>(&cached_);
  }

  struct InLog {
    Position last;
    bool restorable = false;
  };

  Store& store_;
  VerifyReport report_;
  std::map<Sha256Digest, bool> whole_chunks_;  // What was found.
  std::map<Position, bool> whole_segments_;    // The same, by first position.
  std::map<Position, InLog> in_log_;           // By first position.
  std::set<std::string> noted_;
  std::optional<Error> failure_;
  std::set<Position> points_;
  Sha256Digest cached_digest_{};
  Bytes cached_;
};

}  // namespace

Result<VerifyReport> verify_replica(Store& store) {
  WALFS_ASSIGN(const ReplicaListing listing, list_replica(store));
  WALFS_ASSIGN(const std::vector<Route> routes, usable_routes(store, listing));
  Verifier verifier(store);
  for (const Route& route : routes) {
    verifier.route(route);
    if (verifier.failure()) return *verifier.failure();
  }
  verifier.stranded(find_stranded(listing, routes));
  return verifier.take();
}

}  // namespace walfs
