// Runs the corpora of fuzz_segment, fuzz_snapshot and fuzz_keys through their checks, for builds
// without libFuzzer. The real writer made them; with WALFS_WRITE_CORPUS=1 it makes them anew.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fuzz/format_targets.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"

namespace walfs {
namespace {

std::string corpus(const char* name) {
  return std::string(WALFS_FUZZ_CORPUS) + "/" + name;
}

template <typename Check>
size_t run_corpus(const char* name, Check check) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus(name))) {
    SCOPED_TRACE(entry.path().string());
    const Bytes bytes = test::read_whole(entry.path().string());
    check(bytes);
    for (size_t size = 0; size < bytes.size(); size += 7) check(ByteView(bytes).first(size));
    for (size_t at = 0; at < bytes.size(); at += 3) {
      Bytes flipped = bytes;
      flipped[at] ^= static_cast<uint8_t>(1U << (at % 8));
      check(flipped);
    }
    ++files;
  }
  return files;
}

// Whole objects, and what lies under their compression.
void write_corpus() {
  for (const char* name : {"segment", "snapshot", "keys"}) {
    std::filesystem::create_directories(corpus(name));
  }
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    test::MemoryStore store;
    test::ReplicaBuilder builder(store, seed);
    for (uint32_t i = 0; i < 3 * seed; ++i) builder.add();
    builder.seal();
    builder.put_snapshot({builder.last().value - 2}, builder.last());
    const std::string number = std::to_string(seed);
    for (const auto& [key, object] : store.objects()) {
      if (parse_segment_key(key)) {
        test::write_whole(corpus("segment") + "/whole-" + number, object);
        const auto trailer = ByteView(object).last(kSegmentTrailerSize);
        ByteReader in(trailer);
        const uint64_t offset = in.u64();
        const uint64_t size = in.u32();
        const auto raw = decompress("index", ByteView(object).subspan(offset, size), in.u32());
        ByteWriter out;
        out.bytes(ByteView(object).subspan(16, 16));
        out.bytes(*raw);
        test::write_whole(corpus("segment") + "/index-" + number, out.data());
      }
      if (parse_snapshot_key(key)) {
        test::write_whole(corpus("snapshot") + "/whole-" + number, object);
        const auto raw =
            decompress("payload", ByteView(object).subspan(60), fuzz::get_u64(object, 36));
        test::write_whole(corpus("snapshot") + "/payload-" + number, *raw);
      }
      test::write_whole(corpus("keys") + "/" + std::string(key.substr(0, 3)) + number,
                        as_bytes(key));
    }
  }
  test::write_whole(corpus("snapshot") + "/chunk", encode_chunk(as_bytes("a chunk")));
  test::write_whole(corpus("keys") + "/time", as_bytes("2026-03-01T12:30:05.250+01:30"));
  test::write_whole(corpus("keys") + "/position", as_bytes("0000010000000007"));
}

TEST(FormatFuzzCorpus, OfSegmentsKeepsThePromisesOfTheReaders) {
  if (std::getenv("WALFS_WRITE_CORPUS") != nullptr) write_corpus();
  EXPECT_GE(run_corpus("segment", fuzz::check_segment), 8U);
}

TEST(FormatFuzzCorpus, OfSnapshotsKeepsThePromisesOfTheReaders) {
  EXPECT_GE(run_corpus("snapshot", fuzz::check_snapshot), 9U);
}

TEST(FormatFuzzCorpus, OfKeysKeepsThePromisesOfTheParsers) {
  EXPECT_GE(run_corpus("keys", [](ByteView bytes) { fuzz::check_keys(as_text(bytes)); }), 10U);
}

// The corpora are what the writer writes today: whole objects of it are read.
TEST(FormatFuzzCorpus, HoldsObjectsThatAreRead) {
  const Bytes segment = test::read_whole(corpus("segment") + "/whole-4");
  EXPECT_TRUE(read_segment_index("segment", segment.size(), test::read_from_bytes(segment)).ok());
  const Bytes snapshot = test::read_whole(corpus("snapshot") + "/whole-4");
  EXPECT_TRUE(decode_snapshot("snapshot", snapshot).ok());
}

}  // namespace
}  // namespace walfs
