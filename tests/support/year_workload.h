// What applications write in the course of a year: models of a busy and of a quiet volume.
//
// Each second of the calendar has its commits; nothing depends on chance but which hot pages they
// change, and that on a seed. Content is a function of a block and its version, so that any state
// of the past can be made again.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "replicator/base/bytes.h"

namespace walfs::test {

// Seconds from one commit to the next: on weekdays in the peak (11:00 to 11:30 UTC), on weekdays
// in the rest of the office hours (9:00 to 17:00), and at all other times.
struct Pace {
  int64_t peak_s = 0;
  int64_t office_s = 0;
  int64_t other_s = 0;
};

struct WorkloadFile {
  std::string name;
  bool database = true;
  uint32_t block_size = 4096;
  uint64_t blocks = 0;  // At the beginning.
  Pace pace;
  int64_t phase_s = 0;       // All commits come so long after full periods of the pace.
  uint64_t hot_blocks = 0;   // Spread over the file evenly;
  uint64_t hot_writes = 0;   // each commit writes so many of them.
  uint64_t ring_writes = 0;  // So many commits append to a page, then the next page is reused.
  uint64_t grows_after = 0;  // Every so many commits add a page; 0: never.
  bool rewrites = false;     // All of it, with other content.
};

struct WorkloadCommit {
  int64_t time_ns = 0;
  size_t file = 0;
  uint64_t blocks = 0;            // Of the file, afterwards.
  std::vector<uint64_t> written;  // Ascending.
};

class Workload {
 public:
  explicit Workload(std::vector<WorkloadFile> files, uint32_t seed = 1);
  const std::vector<WorkloadFile>& files() const { return files_; }
  // Those of the second (since 1970), which follows all that were asked for before.
  std::vector<WorkloadCommit> commits_of(int64_t second);

 private:
  WorkloadCommit next_commit(size_t file, int64_t second);
  std::vector<WorkloadFile> files_;
  std::vector<uint64_t> blocks_;   // Of each file,
  std::vector<uint64_t> commits_;  // and how many there were.
  std::minstd_rand random_;
};

// A web application: its data, a queue of jobs, a table of events, and a report of each night.
std::vector<WorkloadFile> busy_files();
// Notes that few people take, and a picture that is replaced once a day.
std::vector<WorkloadFile> quiet_files();

// Version by version: each writes one row of a page, or all of an ordinary file.
uint64_t next_version(const WorkloadFile& file, uint64_t version);
// Rows of 128 bytes of text and numbers.
Bytes block_content(size_t file, uint64_t block, uint64_t version, uint32_t block_size);

}  // namespace walfs::test
