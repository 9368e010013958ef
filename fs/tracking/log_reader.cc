#include "fs/tracking/log_reader.h"

#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

namespace walfs {

LogReader::LogReader(Tracker& tracker) : tracker_(tracker), thread_([this] { run(); }) {}

LogReader::~LogReader() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void LogReader::want(const std::shared_ptr<FileState>& database) {
  {
    const std::scoped_lock lock(mutex_);
    wanted_.push_back(database);
  }
  wake_.notify_one();
}

void LogReader::run() {
  while (true) {
    std::vector<std::shared_ptr<FileState>> databases;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !wanted_.empty(); });
      if (stopping_) return;
      databases = std::exchange(wanted_, {});
    }
    for (const auto& database : databases) {
      try {
        tracker_.read_log(*database);
      } catch (const std::exception& fault) {
        // The request that needs it will read it, and tell.
        spdlog::debug("reading a log ahead failed: {}", fault.what());
      }
    }
  }
}

}  // namespace walfs
