#include "replicator/chunk_uploader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/memory_store.h"

namespace walfs {
namespace {

using test::Call;

Bytes content(uint8_t seed) {
  return Bytes(1000, seed);
}

ChunkRef reference(const Bytes& bytes) {
  return {sha256(bytes), bytes.size()};
}

class ChunkUploaderTest : public ::testing::Test {
 protected:
  std::function<void(const ChunkRef&)> note() {
    return [this](const ChunkRef& chunk) {
      const std::scoped_lock lock(mutex_);
      ++done_[chunk.digest];
    };
  }
  int done(const Bytes& bytes) {
    const std::scoped_lock lock(mutex_);
    return done_[sha256(bytes)];
  }

  test::MemoryStore store_;
  std::mutex mutex_;
  std::map<Sha256Digest, int> done_;
};

TEST_F(ChunkUploaderTest, StoresEveryChunkUnderItsHashAndTellsOfEach) {
  ChunkUploader uploader(store_, false);
  for (uint8_t i = 0; i < 40; ++i) ASSERT_TRUE(uploader.add(content(i), note()));
  ASSERT_TRUE(uploader.wait());
  for (uint8_t i = 0; i < 40; ++i) {
    EXPECT_EQ(done(content(i)), 1);
    const ChunkRef chunk = reference(content(i));
    const auto stored = decode_chunk("chunk", chunk, store_.objects().at(chunk_key(chunk.digest)));
    ASSERT_TRUE(stored.ok());
    EXPECT_EQ(*stored, content(i));
  }
  EXPECT_EQ(uploader.puts(), 40U);
}

TEST_F(ChunkUploaderTest, SendsTheSameContentOnceButTellsOfItEachTime) {
  ChunkUploader uploader(store_, false, 1);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(uploader.add(content(1), note()));
  ASSERT_TRUE(uploader.wait());
  EXPECT_EQ(store_.count(Call::kPut), 1U);
  EXPECT_EQ(done(content(1)), 5);
}

TEST_F(ChunkUploaderTest, DoesNotSendWhatTheStoreHasWhenItAsksFirst) {
  const ChunkRef chunk = reference(content(1));
  store_.set_object(chunk_key(chunk.digest), encode_chunk(content(1)));
  ChunkUploader uploader(store_, true);
  ASSERT_TRUE(uploader.add(content(1), note()));
  ASSERT_TRUE(uploader.add(content(2), note()));
  ASSERT_TRUE(uploader.wait());
  EXPECT_EQ(store_.count(Call::kPut), 1U);
  EXPECT_EQ(done(content(1)), 1);
  EXPECT_EQ(done(content(2)), 1);
}

TEST_F(ChunkUploaderTest, TriesAgainUntilTheStoreHasTheChunk) {
  store_.fail(Call::kPut, Errc::kRetry, 2);
  store_.fail(Call::kHead, Errc::kRetry, 1);
  ChunkUploader uploader(store_, true, 1);
  ASSERT_TRUE(uploader.add(content(1), note()));
  ASSERT_TRUE(uploader.wait());
  EXPECT_EQ(store_.keys("chunks/").size(), 1U);
  EXPECT_EQ(done(content(1)), 1);
  EXPECT_FALSE(uploader.error());
}

TEST_F(ChunkUploaderTest, TellsOfAFaultWhileItLasts) {
  store_.fail(Call::kPut, Errc::kDenied, 1000000);
  ChunkUploader uploader(store_, false, 1);
  ASSERT_TRUE(uploader.add(content(1), note()));
  ASSERT_TRUE(store_.wait_for_requests(2));
  ASSERT_TRUE(uploader.error());
  EXPECT_EQ(uploader.error()->code, Errc::kDenied);
  EXPECT_EQ(done(content(1)), 0);
}

// However slow the store is, only some chunks are held in memory.
TEST_F(ChunkUploaderTest, KeepsTheCallerWaitingWhenTooManyAreQueued) {  // I7
  store_.block();
  ChunkUploader uploader(store_, false, 2);
  std::atomic<int> queued{0};
  std::thread caller([&] {
    for (uint8_t i = 0; i < 100; ++i) {
      if (!uploader.add(content(i), note())) return;
      ++queued;
    }
  });
  ASSERT_TRUE(store_.wait_for_requests(2));
  EXPECT_LE(queued, 10);  // Two under way, eight that wait.
  store_.release();
  caller.join();
  ASSERT_TRUE(uploader.wait());
  EXPECT_EQ(store_.keys("chunks/").size(), 100U);
}

TEST_F(ChunkUploaderTest, GivesUpWhenItIsStopped) {
  store_.fail(Call::kPut, Errc::kRetry, 1000000);
  ChunkUploader uploader(store_, false, 2);
  ASSERT_TRUE(uploader.add(content(1), note()));
  ASSERT_TRUE(store_.wait_for_requests(1));
  uploader.stop();
  EXPECT_FALSE(uploader.add(content(2), note()));
  EXPECT_FALSE(uploader.wait());
  EXPECT_EQ(done(content(1)), 0);
}

}  // namespace
}  // namespace walfs
