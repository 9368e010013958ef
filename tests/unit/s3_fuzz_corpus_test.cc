// Runs the corpus of fuzz_s3_xml through its checks, for builds without libFuzzer.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fuzz/s3_targets.h"
#include "tests/support/read_file.h"

namespace walfs {
namespace {

TEST(S3FuzzCorpus, KeepsThePromisesOfTheParsers) {
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(WALFS_FUZZ_CORPUS) + "/s3_xml")) {
    const auto bytes = test::read_file_as<Bytes>(entry.path());
    for (size_t size = 0; size <= bytes.size(); ++size) {
      fuzz::check_s3_documents(ByteView(bytes).first(size));
      fuzz::check_s3_texts(as_text(ByteView(bytes).first(size)));
    }
    ++files;
  }
  EXPECT_GE(files, 9U);
}

}  // namespace
}  // namespace walfs
