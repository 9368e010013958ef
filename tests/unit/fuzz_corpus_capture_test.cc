// Runs the fuzzers' corpora through their checks, for builds without libFuzzer. The files were made
// by SQLite 3.40: page sizes 512 to 65536, both checksum byte orders, spilled, torn and restarted
// logs; journals that start, live and have ended.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fuzz/targets.h"
#include "tests/support/read_file.h"

namespace walfs {
namespace {

template <typename Check>
size_t run_corpus(const char* name, Check check) {
  size_t files = 0;
  const std::filesystem::path corpus = std::filesystem::path(WALFS_FUZZ_CORPUS) / name;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    SCOPED_TRACE(entry.path().string());
    const auto bytes = test::read_file_as<Bytes>(entry.path());
    check(bytes);
    // Every beginning of it too, in steps that fall on no boundary.
    for (size_t size = 0; size < bytes.size(); size += 97) check(ByteView(bytes).first(size));
    ++files;
  }
  return files;
}

TEST(FuzzCorpus, OfLogsKeepsThePromisesOfTheFollower) {
  EXPECT_GE(run_corpus("wal", fuzz::check_wal), 13U);
}

TEST(FuzzCorpus, OfJournalsKeepsThePromisesOfTheParsers) {
  EXPECT_GE(run_corpus("journal", fuzz::check_journal), 17U);
}

}  // namespace
}  // namespace walfs
