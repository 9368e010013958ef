// The real Litestream v0.5.17 (scripts/get-litestream), as an extension of SQLite that opens a
// replica of v0.5. It knows one replica in a process, so that each question is one of sqlite3(1).
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/read_file.h"

namespace walfs::test {

class LitestreamExtension {
 public:
  // `directory` is for its log and for what it restores.
  LitestreamExtension(std::string url, std::string directory)
      : url_(std::move(url)), directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
  }

  // What sqlite3(1) prints for these statements, and says.
  Output ask(const std::vector<std::string>& statements) const { return run({}, statements); }
  // With its writer, which adds to the replica what was changed.
  Output write(const std::vector<std::string>& statements) const {
    return run({"LITESTREAM_WRITE_ENABLED=true"}, statements);
  }
  // Where it has put the whole database, by the code with which `litestream restore` makes it; ""
  // after a failure. Only what is complete gets a file with its transaction beside it.
  std::string restore() const {
    const std::string database = directory_ + "/restored.db";
    std::filesystem::remove(database + ".meta");
    const Output output =
        run({"LITESTREAM_HYDRATION_ENABLED=true", "LITESTREAM_HYDRATION_PATH=" + database},
            {"SELECT count(*) FROM sqlite_schema"});
    EXPECT_EQ(output.status, 0) << output.text << log();
    return std::filesystem::exists(database + ".meta") ? database : "";
  }
  std::string log() const { return read_file_as<std::string>(directory_ + "/litestream.log"); }

 private:
  Output run(const std::vector<std::string>& environment,
             const std::vector<std::string>& statements) const {
    std::vector<std::string> words{"env", "LITESTREAM_REPLICA_URL=" + url_,
                                   "LITESTREAM_LOG_FILE=" + directory_ + "/litestream.log"};
    words.insert(words.end(), environment.begin(), environment.end());
    words.insert(words.end(), {"sqlite3", "-bail", "-cmd", ".load " WALFS_LITESTREAM_VFS, "-cmd",
                               ".open file:replica.db?vfs=litestream", ":memory:"});
    words.insert(words.end(), statements.begin(), statements.end());
    return run_program(words, Seconds(120));
  }

  std::string url_;
  std::string directory_;
};

}  // namespace walfs::test
