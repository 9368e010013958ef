// What every store promises, as tests that a store's own test file instantiates:
//   INSTANTIATE_TEST_SUITE_P(File, StoreConformance, testing::Values(StoreFactory{...}));
// Included by one source file of an executable.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "replicator/epoch.h"
#include "replicator/stores/store.h"
#include "replicator/time.h"

namespace walfs::testing {

// Makes an empty store and, when it goes away, removes all that is in it.
class StoreHolder {
 public:
  virtual ~StoreHolder() = default;
  virtual Store& store() = 0;
};
struct StoreFactory {
  std::function<std::unique_ptr<StoreHolder>()> make;
};

class StoreConformance : public ::testing::TestWithParam<StoreFactory> {
 protected:
  void SetUp() override {
    holder_ = GetParam().make();
    ASSERT_NE(holder_, nullptr);
  }
  Store& store() { return holder_->store(); }

  void put(const std::string& key, const std::string& text, PutMode mode = PutMode::kPlain) {
    const Status status = store().put(key, ObjectBody::of(text), mode);
    ASSERT_TRUE(status.ok()) << key << ": " << status.error().message;
  }
  std::string get(const std::string& key) {
    const auto bytes = store().get(key, 64 << 20);
    EXPECT_TRUE(bytes.ok()) << key << ": " << (bytes.ok() ? "" : bytes.error().message);
    return bytes.ok() ? std::string(as_text(bytes.value())) : "";
  }
  std::vector<std::string> list(const std::string& prefix, const std::string& after = "",
                                size_t limit = 10000) {
    const auto found = store().list(prefix, after, limit);
    EXPECT_TRUE(found.ok()) << (found.ok() ? "" : found.error().message);
    std::vector<std::string> keys;
    if (!found.ok()) return keys;
    for (const ObjectInfo& info : found.value()) keys.push_back(info.key);
    return keys;
  }

 private:
  std::unique_ptr<StoreHolder> holder_;
};

using Keys = std::vector<std::string>;

// A file without a name that holds `size` bytes of a pattern without short periods.
class PatternFile {
 public:
  explicit PatternFile(size_t size)
      : fd_(open(::testing::TempDir().c_str(), O_TMPFILE | O_RDWR, 0600)) {
    EXPECT_GE(fd_, 0);
    text_.reserve(size);
    uint64_t state = 1;
    while (text_.size() < size) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      text_.push_back(static_cast<char>(state >> 56));
    }
    EXPECT_EQ(write(fd_, text_.data(), size), static_cast<ssize_t>(size));
  }
  ~PatternFile() { close(fd_); }
  PatternFile(const PatternFile&) = delete;
  PatternFile& operator=(const PatternFile&) = delete;
  int fd() const { return fd_; }
  const std::string& text() const { return text_; }

 private:
  int fd_;
  std::string text_;
};

TEST_P(StoreConformance, ReturnsWhatWasPut) {
  for (const std::string& text :
       {std::string(), std::string("x"), std::string("\0\r\n\xff", 4), std::string(1 << 20, 'y')}) {
    put("a/object", text);
    EXPECT_EQ(get("a/object"), text);
  }
}

TEST_P(StoreConformance, KnowsTheSizeOfAnObject) {
  put("object", "12345");
  const auto info = store().head("object");
  ASSERT_TRUE(info.ok()) << info.error().message;
  EXPECT_EQ(info.value().key, "object");
  EXPECT_EQ(info.value().size, 5U);
}

TEST_P(StoreConformance, SaysThatAMissingObjectIsNotThere) {
  put("a/b", "x");
  for (const char* key : {"missing", "a/missing", "a/b/c", "missing/a", "a"}) {
    EXPECT_EQ(store().head(key).error().code, Errc::kNothingThere) << key;
    EXPECT_EQ(store().get(key, 10).error().code, Errc::kNothingThere) << key;
    EXPECT_EQ(store().get_range(key, {0, 1}).error().code, Errc::kNothingThere) << key;
    EXPECT_EQ(store().get_range(key, {0, 0}).error().code, Errc::kNothingThere) << key;
  }
}

TEST_P(StoreConformance, RefusesAnObjectOverTheLimit) {
  put("object", std::string(1001, 'x'));
  EXPECT_EQ(store().get("object", 1000).error().code, Errc::kDamaged);
  EXPECT_TRUE(store().get("object", 1001).ok());
  EXPECT_EQ(store().get("object", 0).error().code, Errc::kDamaged);
}

TEST_P(StoreConformance, ReadsExactlyTheRange) {
  put("object", "0123456789");
  const auto read = [this](uint64_t offset, uint64_t size) {
    const auto bytes = store().get_range("object", {offset, size});
    EXPECT_TRUE(bytes.ok()) << offset << "+" << size;
    return bytes.ok() ? std::string(as_text(bytes.value())) : "";
  };
  EXPECT_EQ(read(0, 10), "0123456789");
  EXPECT_EQ(read(3, 4), "3456");
  EXPECT_EQ(read(9, 1), "9");
  EXPECT_EQ(read(10, 0), "");
}

TEST_P(StoreConformance, RefusesARangeBeyondTheEnd) {
  put("object", "0123456789");
  for (const ByteRange range :
       {ByteRange{0, 11}, ByteRange{9, 2}, ByteRange{10, 1}, ByteRange{11, 0}, ByteRange{100, 5}}) {
    EXPECT_EQ(store().get_range("object", range).error().code, Errc::kDamaged)
        << range.offset << "+" << range.size;
  }
  EXPECT_FALSE(store().get_range("object", {UINT64_MAX, UINT64_MAX}).ok());
}

TEST_P(StoreConformance, ReplacesAnObject) {
  put("object", "a longer first text");
  put("object", "second");
  EXPECT_EQ(get("object"), "second");
}

TEST_P(StoreConformance, KeepsTheFirstOfTwoConditionalPuts) {
  put("claim", "first", PutMode::kIfAbsent);
  const Status second = store().put("claim", ObjectBody::of("second"), PutMode::kIfAbsent);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::kConflict);
  // The same content from another writer has lost as well.
  EXPECT_FALSE(store().put("claim", ObjectBody::of("first"), PutMode::kIfAbsent).ok());
  EXPECT_EQ(get("claim"), "first");
}

TEST_P(StoreConformance, KeepsTwoWritersApart) {
  Epoch epoch;
  epoch.number = 1;
  epoch.token = "token";
  const auto fencing = claim_epoch(store(), epoch);
  ASSERT_TRUE(fencing.ok()) << fencing.error().message;
  EXPECT_EQ(describe(*fencing), "conditional-put");
  EXPECT_EQ(list(""), Keys{"epochs/000001.json"});
}

TEST_P(StoreConformance, LetsExactlyOneRacingWriterWin) {
  constexpr int kWriters = 8;
  for (int round = 0; round < 5; ++round) {
    const std::string key = "claims/" + std::to_string(round);
    std::atomic<int> wins{0};
    std::atomic<int> conflicts{0};
    std::atomic<int> winner{-1};
    std::vector<std::thread> writers;
    writers.reserve(kWriters);
    for (int i = 0; i < kWriters; ++i) {
      writers.emplace_back([&, i] {
        const std::string text = "writer " + std::to_string(i);
        const Status status = store().put(key, ObjectBody::of(text), PutMode::kIfAbsent);
        if (status.ok()) {
          ++wins;
          winner = i;
        } else if (status.error().code == Errc::kConflict) {
          ++conflicts;
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    EXPECT_EQ(wins, 1);
    EXPECT_EQ(conflicts, kWriters - 1);
    EXPECT_EQ(get(key), "writer " + std::to_string(winner));
  }
}

TEST_P(StoreConformance, ServesSeveralThreads) {
  std::atomic<int> faults{0};
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 20; ++j) {
        const std::string key = "t/" + std::to_string(i) + "/" + std::to_string(j);
        const std::string text(static_cast<size_t>(100 * i + j), 'a');
        const bool put_ok = store().put(key, ObjectBody::of(text), PutMode::kPlain).ok();
        const auto bytes = store().get(key, 10000);
        if (!put_ok || !bytes.ok() || as_text(bytes.value()) != text) ++faults;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults, 0);
  EXPECT_EQ(list("t/").size(), 160U);
}

TEST_P(StoreConformance, ListsInTheOrderOfBytes) {
  Keys keys = {"ab", "a/b-c", "a.b", "a0", "a-b", "a!", "a+b", "aB", "a~"};
  for (const std::string& key : keys) put(key, key);
  put("a/b/c", "x");
  Keys expected = keys;
  expected.push_back("a/b/c");
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(list(""), expected);
}

TEST_P(StoreConformance, ListsOddCharactersAsTheyAre) {
  Keys keys = {"!", "\"q\"", "#", "$", "%20", "%", "&amp;", "'", "(", ")",
               "*", "+",     ",", "-", ":",   ";", "<b>",   "=", ">", "?x=y",
               "@", "[",     "]", "^", "_",   "`", "{",     "|", "}", "~"};
  for (const std::string& key : keys) put("odd/" + key + "/x", key);
  Keys expected;
  for (const std::string& key : keys) expected.push_back("odd/" + key + "/x");
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(list("odd/"), expected);
  for (const std::string& key : keys) {
    EXPECT_EQ(get("odd/" + key + "/x"), key);
    EXPECT_EQ(list("odd/" + key + "/"), Keys{"odd/" + key + "/x"}) << key;
    EXPECT_TRUE(store().remove("odd/" + key + "/x").ok());
  }
  EXPECT_TRUE(list("").empty());
}

TEST_P(StoreConformance, ListsTheSizes) {
  put("a", "");
  put("b/c", "123");
  const auto found = store().list("", "", 10);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found.value().size(), 2U);
  EXPECT_EQ(found.value()[0].size, 0U);
  EXPECT_EQ(found.value()[1].size, 3U);
}

TEST_P(StoreConformance, ListsOnlyWhatIsAskedFor) {
  for (const char* key :
       {"log/0/1", "log/0/2", "log/0/3", "log/1/1", "logs", "lo", "snapshots/1"}) {
    put(key, "x");
  }
  EXPECT_EQ(list("log/"), (Keys{"log/0/1", "log/0/2", "log/0/3", "log/1/1"}));
  EXPECT_EQ(list("log"), (Keys{"log/0/1", "log/0/2", "log/0/3", "log/1/1", "logs"}));
  EXPECT_EQ(list("log/0/2"), Keys{"log/0/2"});
  EXPECT_EQ(list("log/", "log/0/2"), (Keys{"log/0/3", "log/1/1"}));
  EXPECT_EQ(list("log/", "log/0/9"), Keys{"log/1/1"});
  EXPECT_EQ(list("log/", "log/0"), (Keys{"log/0/1", "log/0/2", "log/0/3", "log/1/1"}));
  EXPECT_EQ(list("log/", "z"), Keys{});
  EXPECT_EQ(list("", "log/0/2", 2), (Keys{"log/0/3", "log/1/1"}));
  EXPECT_EQ(list("log/", "a", 1), Keys{"log/0/1"});
  EXPECT_EQ(list("none/"), Keys{});
  EXPECT_EQ(list("log/", "", 0), Keys{});
}

// The clock of a service need not be ours.
TEST_P(StoreConformance, ListsWhenObjectsWereWritten) {
  put("a", "x");
  const auto found = store().list("", "", 10);
  ASSERT_TRUE(found.ok() && found->size() == 1);
  constexpr int64_t kDay = int64_t{86400} * 1'000'000'000;
  EXPECT_GT(found->front().modified_ns, now_ns() - kDay);
  EXPECT_LT(found->front().modified_ns, now_ns() + kDay);
}

TEST_P(StoreConformance, ListsMoreKeysThanAPageHolds) {
  constexpr int kKeys = 1207;
  Keys expected;
  for (int i = 0; i < kKeys; ++i) {
    char key[32];
    std::snprintf(key, sizeof(key), "many/%04d", i);
    expected.emplace_back(key);
  }
  std::vector<std::thread> writers;
  for (size_t start = 0; start < 4; ++start) {
    writers.emplace_back([&, start] {
      for (size_t i = start; i < expected.size(); i += 4) put(expected[i], "x");
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(list("many/"), expected);
  EXPECT_EQ(list("many/", "", 1100), Keys(expected.begin(), expected.begin() + 1100));
  EXPECT_EQ(list("many/", expected[1000]), Keys(expected.begin() + 1001, expected.end()));
}

TEST_P(StoreConformance, RemovesAnObject) {
  put("a/b", "x");
  EXPECT_TRUE(store().remove("a/b").ok());
  EXPECT_FALSE(store().head("a/b").ok());
  EXPECT_TRUE(store().remove("a/b").ok());
  EXPECT_TRUE(store().remove("never/there").ok());
}

TEST_P(StoreConformance, RefusesKeysThatAreNoPlainPaths) {
  for (const char* key : {"", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "a b", "a\nb"}) {
    EXPECT_EQ(store().put(key, ObjectBody::of("x"), PutMode::kPlain).error().code, Errc::kUsage);
    EXPECT_EQ(store().get(key, 1).error().code, Errc::kUsage) << key;
    EXPECT_EQ(store().get_range(key, {0, 1}).error().code, Errc::kUsage) << key;
    EXPECT_EQ(store().head(key).error().code, Errc::kUsage) << key;
    EXPECT_EQ(store().remove(key).error().code, Errc::kUsage) << key;
  }
  EXPECT_EQ(store().list("../", "", 1).error().code, Errc::kUsage);
}

TEST_P(StoreConformance, UploadsARangeOfAFile) {
  const PatternFile file(100000);
  const Status status =
      store().put("part", ObjectBody::of_file(file.fd(), 1000, 70000), PutMode::kIfAbsent);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(get("part"), file.text().substr(1000, 70000));
}

TEST_P(StoreConformance, UploadsALargeFile) {
  constexpr size_t kSize = (size_t{40} << 20) + 12345;
  const PatternFile file(kSize);
  for (const PutMode mode : {PutMode::kIfAbsent, PutMode::kPlain}) {
    const Status status = store().put("large", ObjectBody::of_file(file.fd(), 0, kSize), mode);
    ASSERT_TRUE(status.ok()) << status.error().message;
    const auto bytes = store().get("large", kSize);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    EXPECT_TRUE(as_text(bytes.value()) == file.text());
    EXPECT_EQ(store().head("large").value().size, kSize);
  }
  EXPECT_EQ(store()
                .put("large", ObjectBody::of_file(file.fd(), 0, kSize), PutMode::kIfAbsent)
                .error()
                .code,
            Errc::kConflict);
}

TEST_P(StoreConformance, PutsNothingWhenTheFileIsTooShort) {
  const PatternFile file(1000);
  const Status status =
      store().put("short", ObjectBody::of_file(file.fd(), 0, 1001), PutMode::kPlain);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kIo);
  EXPECT_TRUE(list("").empty());
}

}  // namespace walfs::testing
