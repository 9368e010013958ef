// The writing end of a volume's log: points go into the open segment, which is sealed into the
// spool.
//
// The spool is a directory of complete segments that the store does not have yet; the uploader
// empties it in order. The open segment is a file without a name that ends in ".seg"; a crash loses
// it, and the next mount finds what it held by comparing the directory with the catalog. append()
// and seal() are called by one thread; the rest may be called from any.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/catalog.h"
#include "replicator/change.h"
#include "replicator/keys.h"
#include "replicator/segment.h"

namespace walfs {

class Log {
 public:
  // spool is the directory's path without a slash at its end. `last` is the position before the
  // next point.
  Log(Catalog& catalog, std::string spool, Position last);

  // Gives the point the next position and its time, writes it into the open segment and applies it
  // to the catalog.
  // The inodes go into the catalog with it. After a failure (no room) nothing has changed, and the
  // same point may be appended again.
  Result<Position> append(Point& point, const Inodes& inodes = {});
  // Completes the open segment, if it holds a point, and makes the catalog follow. The callback set
  // by on_sealed is then called with the segment's range.
  Status seal();
  void on_sealed(std::function<void(PositionRange)> callback) { on_sealed_ = std::move(callback); }

  // When the first point of the open segment was appended (steady clock, ns), or 0.
  int64_t open_since_ns() const { return open_since_ns_; }
  // How large the open segment is on the disk. Any thread.
  uint64_t open_bytes() const { return open_bytes_; }
  Position last() const { return {last_.load()}; }  // Appended.
  // The last point that is not partial; of an earlier epoch if this one has none yet.
  Position complete() const { return {complete_.load()}; }
  bool partial() const { return partial_; }  // Whether last() is. Of the appending thread.
  Position sealed() const { return {sealed_.load()}; }  // In the spool or the store.

 private:
  Status store_open_segment(const std::string& path);
  Status commit_renamed();
  Status recover();
  std::string open_path() const { return spool_ + "/open.tmp"; }

  Catalog& catalog_;
  std::string spool_;
  std::atomic<uint64_t> last_;
  std::atomic<uint64_t> sealed_;
  std::atomic<uint64_t> complete_;
  bool partial_;
  std::function<void(PositionRange)> on_sealed_;
  FileDescriptor file_;
  std::unique_ptr<SegmentWriter> writer_;
  int64_t open_since_ns_ = 0;
  std::atomic<uint64_t> open_bytes_{0};
  // Applied to the catalog and not yet committed there; without their blocks' bytes.
  std::vector<AppliedPoint> uncommitted_;
  // A segment that is in the spool, which the catalog has to follow first.
  std::optional<PositionRange> renamed_;
};

// The segments in a spool directory, ascending. Files of other names are left alone.
Result<std::vector<PositionRange>> list_spool(const std::string& spool);

}  // namespace walfs
