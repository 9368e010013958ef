#include "replicator/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/time.h"

namespace walfs {

Log::Log(Catalog& catalog, std::string spool, Position last)
    : catalog_(catalog),
      spool_(std::move(spool)),
      last_(last.value),
      sealed_(last.value),
      complete_(catalog.header().complete.value),
      partial_(catalog.header().complete != catalog.header().position) {}

// After a full disk the catalog may have lost what was not committed.
Status Log::recover() {
  return catalog_.transaction_lost() ? catalog_.begin_again(uncommitted_) : Status();
}

Result<Position> Log::append(Point& point, const Inodes& inodes) {
  WALFS_TRY(recover());
  if (renamed_) WALFS_TRY(commit_renamed());
  if (writer_ == nullptr) {
    file_ =
        FileDescriptor(::open(open_path().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file_.valid()) return error_from_errno("cannot create a segment in " + spool_, errno);
    writer_ = std::make_unique<SegmentWriter>(file_.get());
  }
  point.position = Position{last_.load() + 1};
  point.time_ns = now_ns();
  WALFS_TRY(writer_->add(point));
  const Status applied = catalog_.apply(point, inodes);
  if (!applied.ok()) {
    writer_->undo();
    return applied.error();
  }
  uncommitted_.push_back({point, inodes});
  for (Change& change : uncommitted_.back().point.changes) {
    auto* content = std::get_if<SetContent>(&change);
    if (content == nullptr) continue;
    for (BlockChange& block : content->blocks) block.data = {};
  }
  last_.store(point.position.value);
  partial_ = point.partial;
  if (!partial_) complete_.store(point.position.value);
  open_bytes_ = writer_->bytes_written();
  if (open_since_ns_ == 0) open_since_ns_ = steady_ns();
  return point.position;
}

Status Log::seal() {
  WALFS_TRY(recover());
  if (renamed_) WALFS_TRY(commit_renamed());
  if (writer_ == nullptr || writer_->empty()) return {};
  WALFS_TRY(writer_->finish());
  const PositionRange range{writer_->first(), writer_->last()};
  Status stored = store_open_segment(spool_ + "/" + segment_name(range));
  if (!stored.ok()) {
    // The segment goes on, and is completed anew.
    writer_->undo();
    return stored;
  }
  writer_.reset();
  file_.reset();
  open_since_ns_ = 0;
  open_bytes_ = 0;
  renamed_ = range;
  return commit_renamed();
}

// After a power cut the catalog must not know more than the spool has.
Status Log::store_open_segment(const std::string& path) {
  if (::fdatasync(file_.get()) != 0)
    return error_from_errno("cannot write a segment to " + spool_, errno);
  if (::rename(open_path().c_str(), path.c_str()) != 0)
    return error_from_errno("cannot rename a segment to " + path, errno);
  const FileDescriptor directory(::open(spool_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid()) ::fsync(directory.get());
  return {};
}

Status Log::commit_renamed() {
  WALFS_TRY(catalog_.commit(renamed_->last));
  const PositionRange range = *renamed_;
  renamed_.reset();
  uncommitted_.clear();
  sealed_.store(range.last.value);
  if (on_sealed_) on_sealed_(range);
  return {};
}

Result<std::vector<PositionRange>> list_spool(const std::string& spool) {
  DIR* directory = ::opendir(spool.c_str());
  if (directory == nullptr) return error_from_errno("cannot list " + spool, errno);
  std::vector<PositionRange> ranges;
  while (const dirent* entry = ::readdir(directory)) {
    if (const auto range = parse_segment_name(entry->d_name)) ranges.push_back(*range);
  }
  ::closedir(directory);
  std::sort(ranges.begin(), ranges.end(),
            [](const PositionRange& a, const PositionRange& b) { return a.first < b.first; });
  return ranges;
}

}  // namespace walfs
