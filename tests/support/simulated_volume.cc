#include "tests/support/simulated_volume.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "replicator/base/file_descriptor.h"
#include "replicator/epoch.h"
#include "replicator/segment.h"
#include "replicator/snapshot.h"

namespace walfs::test {
namespace {

FileId id_of(size_t file) {
  return kRootId + 1 + file;
}

Attributes root_attributes() {
  Attributes attributes;
  attributes.type = FileType::kDirectory;
  attributes.mode = 0755;
  attributes.mtime_ns = SimulatedVolume::kBeginSecond * kNsPerSecond;
  return attributes;
}

Epoch first_epoch() {
  Epoch epoch;
  epoch.number = 1;
  epoch.fresh = true;
  epoch.holder = "host:/srv/app";
  epoch.token = "token";
  return epoch;
}

}  // namespace

SimulatedVolume::SimulatedVolume(std::vector<WorkloadFile> files, UpkeepPolicy policy)
    : workload_(std::move(files)),
      upkeep_(store_, scratch_.path(), std::move(policy), Upkeep::Drive::kSteps) {
  objects_.tell_times();
  for (const WorkloadFile& file : workload_.files()) {
    now_.push_back({std::vector<uint64_t>(file.blocks), kBeginSecond * kNsPerSecond});
    hashes_.emplace_back(file.blocks);
    checksums_.push_back(0);
  }
  before_ = now_;
  if (!begin().ok()) std::abort();
}

// The replica begins with an empty directory; the first point has all files.
Status SimulatedVolume::begin() {
  WALFS_TRY(create_volume(store_, "volume"));
  WALFS_TRY(claim_epoch(store_, first_epoch()));
  Snapshot empty;
  empty.range = {last_, last_};
  empty.time_ns = now_ns();
  empty.files.push_back({.id = kRootId, .attributes = root_attributes(), .extents = {}});
  const Bytes object = encode_snapshot(empty);
  WALFS_TRY(store_.put(snapshot_key(empty.range), ObjectBody::of(object), PutMode::kIfAbsent));
  uploader_.emplace(store_, scratch_.make("spool"), first_epoch(), Fencing::kConditionalPut, last_,
                    nullptr, Uploader::Drive::kSteps);
  uploader_->on_uploaded([this](PositionRange range, uint64_t size) { upkeep_.add(range, size); });
  Contents contents;
  Point point = first_point();
  for (size_t file = 0; file < now_.size(); ++file) {
    std::vector<uint64_t> all(now_[file].versions.size());
    for (uint64_t block = 0; block < all.size(); ++block) all[block] = block;
    point.changes.emplace_back(set_content(file, all, contents));
  }
  return upload({point});
}

Point SimulatedVolume::first_point() {
  Point point;
  point.position = last_ = forgotten_ = last_.next();
  point.time_ns = now_ns();
  for (size_t file = 0; file < now_.size(); ++file) {
    point.changes.emplace_back(SetFile{id_of(file), attributes_of(now_[file])});
    point.changes.emplace_back(SetEntry{kRootId, files()[file].name, id_of(file)});
  }
  return point;
}

Status SimulatedVolume::pass_seconds(int64_t seconds) {
  for (const int64_t end = second_ + seconds; second_ < end; ++second_) {
    const std::vector<WorkloadCommit> commits = workload_.commits_of(second_);
    Contents contents;
    std::vector<Point> points;
    for (const WorkloadCommit& commit : commits) points.push_back(make_point(commit, contents));
    if (look_) look_(second_, commits, contents);
    clock_.set((second_ + 1) * kNsPerSecond);
    if (!points.empty()) WALFS_TRY(upload(points));
  }
  return {};
}

Status SimulatedVolume::rest_seconds(int64_t seconds) {
  for (const int64_t end = second_ + seconds; second_ < end;) {
    second_ += std::min<int64_t>(3600, end - second_);
    clock_.set(second_ * kNsPerSecond);
    WALFS_TRY(work());
  }
  return {};
}

Point SimulatedVolume::make_point(const WorkloadCommit& commit, Contents& contents) {
  remember(commit);
  FileState& state = now_[commit.file];
  advance(state, commit);
  hashes_[commit.file].resize(commit.blocks);
  Point point;
  point.position = last_;
  point.time_ns = commit.time_ns;
  if (!files()[commit.file].database)
    point.changes.emplace_back(SetFile{id_of(commit.file), attributes_of(state)});
  point.changes.emplace_back(set_content(commit.file, commit.written, contents));
  return point;
}

SetContent SimulatedVolume::set_content(size_t number, const std::vector<uint64_t>& blocks,
                                        Contents& contents) {
  const WorkloadFile& file = files()[number];
  const FileState& state = now_[number];
  SetContent change;
  change.id = id_of(number);
  change.block_size = file.block_size;
  change.size = state.versions.size() * file.block_size;
  change.database = file.database;
  for (const uint64_t block : blocks) {
    contents.push_back(block_content(number, block, state.versions[block], file.block_size));
    const uint64_t hash = block_hash(block, contents.back(), file.block_size);
    checksums_[number] += hash - std::exchange(hashes_[number][block], hash);
    change.blocks.push_back({block, hash, contents.back(), 0});
  }
  change.checksum = checksums_[number];
  return change;
}

void SimulatedVolume::remember(const WorkloadCommit& commit) {
  last_ = last_.next();
  remembered_.push_back({last_, commit});
  while (remembered_.front().commit.time_ns < commit.time_ns - kRemembered) {
    const WorkloadCommit& oldest = remembered_.front().commit;
    advance(before_[oldest.file], oldest);
    forgotten_ = remembered_.front().position;
    remembered_.pop_front();
  }
}

void SimulatedVolume::advance(FileState& state, const WorkloadCommit& commit) const {
  const WorkloadFile& file = files()[commit.file];
  state.versions.resize(commit.blocks);
  for (const uint64_t block : commit.written)
    state.versions[block] = next_version(file, state.versions[block]);
  if (!file.database) state.mtime_ns = commit.time_ns;
}

Attributes SimulatedVolume::attributes_of(const FileState& state) const {
  Attributes attributes;
  attributes.mode = 0644;
  attributes.mtime_ns = state.mtime_ns;
  return attributes;
}

Status SimulatedVolume::upload(const std::vector<Point>& points) {
  const PositionRange range{points.front().position, points.back().position};
  const std::string path = scratch_.path("spool/" + segment_name(range));
  {
    const FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SegmentWriter writer(file.get());
    for (const Point& point : points) WALFS_TRY(writer.add(point));
    WALFS_TRY(writer.finish());
  }
  uploader_->add(range);
  uploader_->step();
  if (const auto error = uploader_->status().error) return *error;
  ++uploads_;
  return work();
}

Status SimulatedVolume::work() {
  while (true) {
    WALFS_ASSIGN(const bool done, upkeep_.step());
    if (!done) return {};
  }
}

Bytes SimulatedVolume::content_of(size_t file) const {
  Bytes content;
  const std::vector<uint64_t>& versions = now_[file].versions;
  for (uint64_t block = 0; block < versions.size(); ++block) {
    const Bytes part = block_content(file, block, versions[block], files()[file].block_size);
    content.insert(content.end(), part.begin(), part.end());
  }
  return content;
}

Position SimulatedVolume::position_at(int64_t time_ns) const {
  const auto after = std::upper_bound(
      remembered_.begin(), remembered_.end(), time_ns,
      [](int64_t time, const Remembered& one) { return time < one.commit.time_ns; });
  return after == remembered_.begin() ? forgotten_ : std::prev(after)->position;
}

Model SimulatedVolume::state_at(Position position) const {
  std::vector<FileState> states = before_;
  for (const Remembered& one : remembered_) {
    if (position < one.position) break;
    advance(states[one.commit.file], one.commit);
  }
  Model model;
  model.files[kRootId].attributes = root_attributes();
  for (size_t number = 0; number < states.size(); ++number) {
    const WorkloadFile& file = files()[number];
    ModelFile& made = model.files[id_of(number)];
    made.attributes = attributes_of(states[number]);
    made.block_size = file.block_size;
    made.database = file.database;
    for (uint64_t block = 0; block < states[number].versions.size(); ++block) {
      const Bytes part =
          block_content(number, block, states[number].versions[block], file.block_size);
      made.content.insert(made.content.end(), part.begin(), part.end());
    }
    model.entries[{kRootId, file.name}] = id_of(number);
  }
  return model;
}

}  // namespace walfs::test
