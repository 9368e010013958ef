// Reads write-ahead logs while the application waits for the disk.
//
// A checkpoint begins with a sync of the log. What has come into the log until then has to be read
// before it is overwritten; if nobody did so earlier, the request that overwrites it would wait.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fs/tracking/tracker.h"

namespace walfs {

class LogReader {
 public:
  // The tracker must outlive it.
  explicit LogReader(Tracker& tracker);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  // The log of this database is worth reading. Any thread, any locks held.
  void want(const std::shared_ptr<FileState>& database);

 private:
  void run();

  Tracker& tracker_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<FileState>> wanted_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace walfs
