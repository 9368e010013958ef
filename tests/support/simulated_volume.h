// A volume's writer through days and years that pass in no time: what its applications commit
// becomes segments, the real uploader and the real upkeep bring them to a store and keep it in
// order, by the policies of the program, and the model of the directory can tell every state of
// the last days.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replicator/upkeep.h"
#include "replicator/uploader.h"
#include "tests/support/log_model.h"
#include "tests/support/metered_store.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/year_workload.h"

namespace walfs::test {

// Stands still until it is told.
class ToldClock : public Clock {
 public:
  explicit ToldClock(int64_t begin_ns) : begin_ns_(begin_ns), now_ns_(begin_ns) { set_clock(this); }
  ~ToldClock() override { set_clock(nullptr); }
  int64_t now_ns() override { return now_ns_; }
  int64_t steady_ns() override { return now_ns_ - begin_ns_ + kNsPerSecond; }
  void set(int64_t now_ns) { now_ns_ = now_ns; }

 private:
  const int64_t begin_ns_;
  std::atomic<int64_t> now_ns_;
};

class SimulatedVolume {
 public:
  // A Tuesday, 22:13:20 UTC.
  static constexpr int64_t kBeginSecond = 1'700'000'000;

  explicit SimulatedVolume(std::vector<WorkloadFile> files, UpkeepPolicy policy = {});

  // Called for each second with its commits, and the content of all their blocks one after the
  // other.
  using Contents = std::vector<Bytes>;
  void on_second(std::function<void(int64_t second, const std::vector<WorkloadCommit>& commits,
                                    const Contents& contents)>
                     look) {
    look_ = std::move(look);
  }
  // What is committed within a second is one segment, uploaded at its end; then the upkeep does
  // all that is due.
  Status pass_seconds(int64_t seconds);
  // The same without commits: the upkeep is asked each hour.
  Status rest_seconds(int64_t seconds);

  int64_t now_second() const { return second_; }
  MeteredStore& store() { return store_; }
  MemoryStore& objects() { return objects_; }
  uint64_t uploads() const { return uploads_; }
  const std::vector<WorkloadFile>& files() const { return workload_.files(); }
  Bytes content_of(size_t file) const;  // Now.

  // How long the model remembers.
  static constexpr int64_t kRemembered = 8 * kDayNs;
  // The last position not after the time, which is remembered.
  Position position_at(int64_t time_ns) const;
  Model state_at(Position position) const;
  Position last() const { return last_; }
  const ScratchDirectory& scratch() const { return scratch_; }

 private:
  struct FileState {
    std::vector<uint64_t> versions;  // Of each block.
    int64_t mtime_ns = 0;
  };
  struct Remembered {
    Position position;
    WorkloadCommit commit;
  };
  Status begin();
  Status upload(const std::vector<Point>& points);
  Status work();
  Point first_point();
  Point make_point(const WorkloadCommit& commit, Contents& contents);
  SetContent set_content(size_t file, const std::vector<uint64_t>& blocks, Contents& contents);
  void remember(const WorkloadCommit& commit);
  void advance(FileState& state, const WorkloadCommit& commit) const;
  Attributes attributes_of(const FileState& state) const;

  Workload workload_;
  int64_t second_ = kBeginSecond;
  ToldClock clock_{kBeginSecond * kNsPerSecond};
  ScratchDirectory scratch_;
  MemoryStore objects_;
  MeteredStore store_{objects_};
  Upkeep upkeep_;
  std::optional<Uploader> uploader_;
  uint64_t uploads_ = 0;
  std::function<void(int64_t, const std::vector<WorkloadCommit>&, const Contents&)> look_;

  Position last_ = Position::of(1, 0);
  std::vector<FileState> now_;
  std::vector<std::vector<uint64_t>> hashes_;  // Of each file's blocks.
  std::vector<uint64_t> checksums_;
  // The state at the last position before those that are remembered.
  std::vector<FileState> before_;
  Position forgotten_;
  std::deque<Remembered> remembered_;
};

}  // namespace walfs::test
