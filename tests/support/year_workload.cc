#include "tests/support/year_workload.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include "replicator/time.h"

namespace walfs::test {
namespace {

constexpr int64_t kHourS = 3600;
constexpr int64_t kHalfHourS = kHourS / 2;
constexpr int64_t kDayS = 24 * kHourS;
constexpr uint64_t kRowSize = 128;

int64_t period_at(const Pace& pace, int64_t second) {
  constexpr int64_t kThursday = 4;  // 1970 began with it; the week begins with Sunday, 0.
  const int64_t weekday = (second / kDayS + kThursday) % 7;
  const int64_t half_hour = second % kDayS / kHalfHourS;
  if (weekday == 0 || weekday == 6 || half_hour < 18 || half_hour >= 34) return pace.other_s;
  return half_hour == 22 ? pace.peak_s : pace.office_s;
}

// splitmix64
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

constexpr std::array<const char*, 16> kWords = {
    "invoice,", "shipped,", "pending,", "berlin, ", "widgets ", "customer", "e-mail: ", "address:",
    "example.", "approved", "comment:", "article ", "product ", "quantity", "updated ", "delivery"};

// A third of it are digits by chance, the rest a few words.
void write_row(uint64_t seed, uint8_t* row) {
  for (uint64_t at = 0; at < kRowSize; at += 8) {
    const uint64_t drawn = mix(seed + at);
    if (at % 24 == 0) {
      for (unsigned i = 0; i < 8; ++i)
        row[at + i] = static_cast<uint8_t>("0123456789abcdef"[(drawn >> (4 * i)) & 15]);
    } else {
      std::memcpy(row + at, kWords[drawn % kWords.size()], 8);
    }
  }
}

}  // namespace

Workload::Workload(std::vector<WorkloadFile> files, uint32_t seed)
    : files_(std::move(files)), commits_(files_.size()), random_(seed) {
  for (const WorkloadFile& file : files_) blocks_.push_back(file.blocks);
}

std::vector<WorkloadCommit> Workload::commits_of(int64_t second) {
  std::vector<WorkloadCommit> commits;
  for (size_t file = 0; file < files_.size(); ++file) {
    const int64_t period = period_at(files_[file].pace, second);
    if (period != 0 && second % period == files_[file].phase_s % period)
      commits.push_back(next_commit(file, second));
  }
  return commits;
}

WorkloadCommit Workload::next_commit(size_t number, int64_t second) {
  const WorkloadFile& file = files_[number];
  uint64_t& blocks = blocks_[number];
  const uint64_t count = commits_[number]++;
  std::set<uint64_t> written;
  for (uint64_t i = 0; i < file.hot_writes; ++i)
    written.insert(random_() % file.hot_blocks * (file.blocks / file.hot_blocks));
  if (file.ring_writes != 0) written.insert(count / file.ring_writes % blocks);
  if (file.grows_after != 0 && count % file.grows_after == file.grows_after - 1)
    written.insert(blocks++);
  for (uint64_t block = 0; file.rewrites && block < blocks; ++block) written.insert(block);
  const auto tenth = static_cast<int64_t>(number) * 100 * kNsPerMs;
  return {second * kNsPerSecond + tenth, number, blocks, {written.begin(), written.end()}};
}

std::vector<WorkloadFile> busy_files() {
  WorkloadFile data;
  data.name = "app.db";
  data.blocks = 2048;
  data.pace = {1, 20, 120};
  data.hot_blocks = 256;
  data.hot_writes = 3;
  data.grows_after = 1000;
  WorkloadFile queue;
  queue.name = "queue.db";
  queue.blocks = 256;
  queue.pace = {1, 20, 120};
  queue.hot_blocks = 32;
  queue.hot_writes = 2;
  WorkloadFile events;
  events.name = "events.db";
  events.blocks = 1024;
  events.pace = {2, 40, 240};
  events.hot_blocks = 4;
  events.hot_writes = 1;
  events.ring_writes = 32;
  WorkloadFile report;
  report.name = "report.csv";
  report.database = false;
  report.block_size = 16384;
  report.blocks = 16;
  report.pace = {0, 0, kDayS};
  report.phase_s = 3 * kHourS + 200;
  report.rewrites = true;
  return {data, queue, events, report};
}

std::vector<WorkloadFile> quiet_files() {
  WorkloadFile notes;
  notes.name = "notes.db";
  notes.blocks = 512;
  notes.pace = {kHourS, 3 * kHourS, 6 * kHourS};
  notes.phase_s = 433;
  notes.hot_blocks = 64;
  notes.hot_writes = 3;
  notes.grows_after = 20;
  WorkloadFile picture;
  picture.name = "picture.jpg";
  picture.database = false;
  picture.block_size = 16384;
  picture.blocks = 4;
  picture.pace = {0, 0, kDayS};
  picture.phase_s = 20 * kHourS + 50;
  picture.rewrites = true;
  return {notes, picture};
}

uint64_t next_version(const WorkloadFile& file, uint64_t version) {
  return version + (file.rewrites ? file.block_size / kRowSize : 1);
}

Bytes block_content(size_t file, uint64_t block, uint64_t version, uint32_t block_size) {
  Bytes content(block_size);
  const uint64_t rows = block_size / kRowSize;
  for (uint64_t row = 0; row < rows; ++row) {
    // The last version up to this one that has written the row; those of the beginning are below 0.
    const uint64_t written = version + rows - (version + rows - row) % rows;
    const uint64_t seed = mix(mix(mix(file) + block) + written);
    write_row(seed, content.data() + row * kRowSize);
  }
  return content;
}

}  // namespace walfs::test
