// The way to a store, for one writer, over a network that a seed decides: requests fail before or
// after they took effect, arrive twice, or arrive long after the writer gave them up. And the clock
// of the same world. One request at a time.
#pragma once

#include <deque>
#include <functional>
#include <random>
#include <string>
#include <utility>

#include "replicator/time.h"
#include "tests/support/memory_store.h"

namespace walfs::test {

// Goes on as the simulation says, and a little with each look; faster when somebody looks again and
// again, so that nobody waits for ever.
class SimulatedClock : public Clock {
 public:
  SimulatedClock() { set_clock(this); }
  ~SimulatedClock() override { set_clock(nullptr); }
  int64_t now_ns() override { return kBegin + steady_ns(); }
  int64_t steady_ns() override { return elapsed_ns_ += ++looks_ < 2000 ? 1'000 : 50'000'000; }
  void advance_ms(int64_t ms) {
    elapsed_ns_ += ms * 1'000'000;
    looks_ = 0;
  }

 private:
  static constexpr int64_t kBegin = 1'700'000'000'000'000'000;
  std::atomic<int64_t> elapsed_ns_{0};
  std::atomic<int> looks_{0};
};

class SimulatedStore : public Store {
 public:
  enum class Weather { kFine, kRough, kAway };

  SimulatedStore(MemoryStore& objects, uint32_t seed) : objects_(objects), random_(seed) {}

  void set_weather(Weather weather) { weather_ = weather; }
  Weather weather() const { return weather_; }
  // What is still on its way arrives now.
  void deliver_all() {
    while (!on_the_way_.empty()) deliver_one();
  }

  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override {
    Bytes bytes(body.size);
    if (body.fd < 0) {
      bytes.assign(body.memory.begin(), body.memory.end());
    } else if (::pread(body.fd, bytes.data(), bytes.size(), static_cast<off_t>(body.offset)) !=
               static_cast<ssize_t>(bytes.size())) {
      return Error{Errc::kIo, "the body of " + key + " is shorter than it says"};
    }
    const auto now = [this, key, mode](const Bytes& content) {
      return objects_.put(key, ObjectBody::of(content), mode);
    };
    const auto later = [&] {
      on_the_way_.push_back([now, bytes] { static_cast<void>(now(bytes).ok()); });
    };
    switch (fate()) {
      case Fate::kDone:
        return now(bytes);
      case Fate::kLost:
        return failed(key);
      case Fate::kAnswerLost:
        static_cast<void>(now(bytes).ok());
        return failed(key);
      case Fate::kTwice:
        later();
        return now(bytes);
      case Fate::kLate:
        later();
        return failed(key);
    }
    return failed(key);
  }
  Result<Bytes> get(const std::string& key, uint64_t max_size) override {
    if (fails()) return failed(key);
    return objects_.get(key, max_size);
  }
  Result<Bytes> get_range(const std::string& key, ByteRange range) override {
    if (fails()) return failed(key);
    return objects_.get_range(key, range);
  }
  Result<ObjectInfo> head(const std::string& key) override {
    if (fails()) return failed(key);
    return objects_.head(key);
  }
  Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                       size_t limit) override {
    if (fails()) return failed(prefix);
    return objects_.list(prefix, after, limit);
  }
  Status remove(const std::string& key) override {
    if (fails()) return failed(key);
    return objects_.remove(key);
  }
  bool has_conditional_put() const override { return true; }
  std::string describe() const override { return objects_.describe(); }

 private:
  enum class Fate { kDone, kLost, kAnswerLost, kTwice, kLate };

  static Error failed(const std::string& key) {
    return Error{Errc::kRetry, "no answer for " + key};
  }
  void deliver_one() {
    const size_t which = random_() % on_the_way_.size();
    const auto deliver = std::move(on_the_way_[which]);
    on_the_way_.erase(on_the_way_.begin() + static_cast<std::ptrdiff_t>(which));
    deliver();
  }
  Fate fate() {
    if (!on_the_way_.empty() && random_() % 4 == 0) deliver_one();
    if (weather_ == Weather::kFine) return Fate::kDone;
    if (weather_ == Weather::kAway) return random_() % 8 == 0 ? Fate::kLate : Fate::kLost;
    switch (random_() % 10) {
      case 0:
      case 1:
        return Fate::kLost;
      case 2:
        return Fate::kAnswerLost;
      case 3:
        return Fate::kTwice;
      case 4:
        return Fate::kLate;
      default:
        return Fate::kDone;
    }
  }
  bool fails() {
    const Fate what = fate();
    return what != Fate::kDone && what != Fate::kTwice;
  }

  MemoryStore& objects_;
  std::mt19937 random_;
  Weather weather_ = Weather::kFine;
  std::deque<std::function<void()>> on_the_way_;
};

}  // namespace walfs::test
