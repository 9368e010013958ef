#include "replicator/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "replicator/time.h"

namespace walfs {

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int OwnedFd::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

void OwnedFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Log::Log(Catalog& catalog, std::string spool, Position last)
    : catalog_(catalog), spool_(std::move(spool)), last_(last.value), sealed_(last.value) {}

Result<Position> Log::append(Point& point) {
  if (writer_ == nullptr) {
    file_ = OwnedFd(::open(open_path().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file_.valid()) return error_from_errno("cannot create a segment in " + spool_, errno);
    writer_ = std::make_unique<SegmentWriter>(file_.get());
  }
  point.position = Position{last_.load() + 1};
  point.time_ns = now_ns();
  WALFS_TRY(writer_->add(point));
  const Status applied = catalog_.apply(point);
  if (!applied.ok()) {
    writer_->undo();
    return applied.error();
  }
  last_.store(point.position.value);
  if (open_since_ns_ == 0) open_since_ns_ = steady_ns();
  return point.position;
}

Status Log::seal() {
  if (writer_ == nullptr || writer_->empty()) return {};
  WALFS_TRY(writer_->finish());
  const PositionRange range{writer_->first(), writer_->last()};
  const std::string path = spool_ + "/" + segment_name(range);
  if (::rename(open_path().c_str(), path.c_str()) != 0) {
    return error_from_errno("cannot rename a segment to " + path, errno);
  }
  writer_.reset();
  file_.reset();
  open_since_ns_ = 0;
  WALFS_TRY(catalog_.commit(range.last));
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
