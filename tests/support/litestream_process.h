// The real Litestream v0.3.13 (scripts/get-litestream), replicating one database.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "replicator/stores/store_url.h"
#include "tests/support/child_process.h"
#include "tests/support/read_file.h"

namespace walfs::test {

class Litestream {
 public:
  // Keeps its files in `directory`, with names that begin with "litestream".
  Litestream(std::string database, const std::string& url, std::string directory)
      : database_(std::move(database)), directory_(std::move(directory)) {
    std::ofstream out(config());
    out << "dbs:\n- path: " << database_ << "\n"
        << "  monitor-interval: 50ms\n  checkpoint-interval: 1s\n"
        << "  min-checkpoint-page-count: 100\n"
        << "  replicas:\n  - sync-interval: 200ms\n    snapshot-interval: 2500ms\n"
        << "    retention: 1h\n";
    const auto parsed = parse_store_url(url);
    if (const auto* file = std::get_if<FileUrl>(&*parsed)) {
      out << "    path: " << file->path << "\n";
      return;
    }
    const auto& s3 = std::get<S3Url>(*parsed);
    out << "    type: s3\n    bucket: " << s3.bucket << "\n    path: " << s3.prefix
        << "\n    endpoint: " << s3.endpoint << "\n    region: " << s3.region
        << "\n    force-path-style: true\n";
  }

  void start() {
    child_ = std::make_unique<Child>([this] {
      const int log = open((directory_ + "/litestream.log").c_str(),
                           O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      dup2(log, 1);
      dup2(log, 2);
      execl(WALFS_LITESTREAM, "litestream", "replicate", "-config", config().c_str(), nullptr);
      return 127;
    });
  }
  void stop(int signal) {
    kill(child_->pid(), signal);
    EXPECT_NE(child_->wait(), kTimedOut) << log();
    child_.reset();
  }
  Output restore(const std::string& to, const std::string& time = "") const {
    std::vector<std::string> words{WALFS_LITESTREAM, "restore", "-config", config(), "-o", to};
    if (!time.empty()) words.insert(words.end(), {"-timestamp", time});
    words.push_back(database_);
    return run_program(words);
  }
  std::string log() const { return read_file_as<std::string>(directory_ + "/litestream.log"); }

 private:
  std::string config() const { return directory_ + "/litestream.yml"; }
  std::string database_;
  std::string directory_;
  std::unique_ptr<Child> child_;
};

}  // namespace walfs::test
