// Runs the corpus of fuzz_s3_xml through its checks, for builds without libFuzzer.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/s3_targets.h"

namespace walfs {
namespace {

TEST(S3FuzzCorpus, KeepsThePromisesOfTheParsers) {
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(WALFS_FUZZ_CORPUS) + "/s3_xml")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
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
