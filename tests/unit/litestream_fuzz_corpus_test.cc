// Runs the corpus of fuzz_litestream through its checks, for builds without libFuzzer. With
// WALFS_WRITE_CORPUS=1 it makes the corpus anew, of small replicas.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fuzz/litestream_targets.h"
#include "tests/support/ltx_file.h"

namespace walfs {
namespace {

std::string corpus(const std::string& name) {
  return std::string(WALFS_FUZZ_CORPUS) + "/litestream" + name;
}

void write_corpus() {
  std::filesystem::create_directories(corpus(""));
  test::MemoryStore store;
  test::LitestreamReplica replica(store, 512);
  replica.begin_generation("0123456789abcdef");
  replica.insert(1);
  replica.sync();
  for (size_t i = 0; i < replica.keys.size(); ++i) {
    const std::string number = std::to_string(i);
    test::write_whole(corpus("/object-" + number), store.objects().at(replica.keys[i]));
    test::write_whole(corpus("/log-" + number), replica.content(replica.keys[i]));
    test::write_whole(corpus("/key-" + number), as_bytes(replica.keys[i]));
  }
  for (const bool frames : {false, true}) {
    test::LtxFile file;
    file.pages = 2;
    file.frames = frames;
    file.content = {{1, Bytes(512, 'a')}, {2, Bytes(512, 'b')}};
    test::write_whole(corpus(frames ? "/ltx-frames" : "/ltx-blocks"), file.bytes());
  }
}

TEST(LitestreamFuzzCorpus, KeepsThePromisesOfTheReaders) {
  if (std::getenv("WALFS_WRITE_CORPUS") != nullptr) write_corpus();
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus(""))) {
    SCOPED_TRACE(entry.path().string());
    const Bytes bytes = test::read_whole(entry.path().string());
    fuzz::check_litestream(bytes);
    for (size_t size = 0; size < bytes.size(); size += 13)
      fuzz::check_litestream(ByteView(bytes).first(size));
    for (size_t at = 0; at < bytes.size(); at += 5) {
      Bytes flipped = bytes;
      flipped[at] ^= static_cast<uint8_t>(1U << (at % 8));
      fuzz::check_litestream(flipped);
    }
    ++files;
  }
  EXPECT_GE(files, 11U);
}

}  // namespace
}  // namespace walfs
