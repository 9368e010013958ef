// The shared state of a server in a test, gone with the test.
#pragma once

#include <sys/mman.h>

#include "fs/mount/node_records.h"
#include "fs/mount/request_journal.h"
#include "fs/mount/shared_state.h"

namespace walfs::test {

class TestRecords {
 public:
  TestRecords() = default;
  ~TestRecords() { munmap(state_, sizeof(SharedState)); }
  TestRecords(const TestRecords&) = delete;
  TestRecords& operator=(const TestRecords&) = delete;

  SharedState& state() { return *state_; }
  NodeRecords& records() { return records_; }
  RequestJournal& journal() { return journal_; }

 private:
  FileDescriptor fd_ = *make_shared_state();
  SharedState* state_ = *map_shared_state(fd_.get());
  NodeRecords records_{*state_, -1};
  RequestJournal journal_{*state_, records_};
};

}  // namespace walfs::test
