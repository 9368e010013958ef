// A store in memory that misbehaves on demand: fails the nth request with a given error, keeps
// requests waiting until they are let go, loses the answer of a put that took effect. Counts what
// it was asked.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replicator/stores/store.h"
#include "replicator/time.h"

namespace walfs::test {

enum class Call { kPut, kGet, kGetRange, kHead, kList, kRemove };

struct Request {
  Call call = Call::kPut;
  std::string key;  // Of a list, the prefix.
  ByteRange range;  // Of a get_range.
};

class MemoryStore : public Store {
 public:
  // The next `count` requests of this kind whose keys begin with `prefix` fail with `code`, after
  // `skip` others of them. With `took_effect` a put is done before it fails: its answer is lost.
  void fail(Call call, Errc code, size_t count = 1, size_t skip = 0, std::string prefix = "",
            bool took_effect = false) {
    const std::scoped_lock lock(mutex_);
    faults_.push_back({call, code, count, skip, std::move(prefix), took_effect});
  }
  void lose_answer_of_put(const std::string& prefix) {
    fail(Call::kPut, Errc::kRetry, 1, 0, prefix, /*took_effect=*/true);
  }
  void heal() {
    const std::scoped_lock lock(mutex_);
    faults_.clear();
  }

  // From now on kIfAbsent replaces what is there.
  void ignore_conditions() {
    const std::scoped_lock lock(mutex_);
    ignores_conditions_ = true;
  }
  // As a store that has refused a condition.
  void refuse_conditions() { has_conditions_ = false; }
  bool has_conditional_put() const override { return has_conditions_; }

  // From now on every request waits.
  void block() {
    const std::scoped_lock lock(mutex_);
    blocked_ = true;
  }
  void release() {
    const std::scoped_lock lock(mutex_);
    blocked_ = false;
    changed_.notify_all();
  }
  // Returns once `count` requests have begun in all; false after a long time without them.
  bool wait_for_requests(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30),
                             [&] { return requests_.size() >= count; });
  }

  std::vector<Request> requests() const {
    const std::scoped_lock lock(mutex_);
    return requests_;
  }
  size_t count(Call call, const std::string& prefix = "") const {
    const std::scoped_lock lock(mutex_);
    size_t found = 0;
    for (const Request& request : requests_) {
      found += request.call == call && request.key.starts_with(prefix) ? 1 : 0;
    }
    return found;
  }
  void forget_requests() {
    const std::scoped_lock lock(mutex_);
    requests_.clear();
  }

  // The objects as they are, without a request.
  std::map<std::string, Bytes> objects() const {
    const std::scoped_lock lock(mutex_);
    return objects_;
  }
  std::vector<std::string> keys(const std::string& prefix = "") const {
    const std::scoped_lock lock(mutex_);
    std::vector<std::string> found;
    for (const auto& [key, bytes] : objects_) {
      if (key.starts_with(prefix)) found.push_back(key);
    }
    return found;
  }
  void set_object(const std::string& key, Bytes bytes) {
    const std::scoped_lock lock(mutex_);
    objects_[key] = std::move(bytes);
  }
  // When a list says that the object was written.
  void set_time(const std::string& key, int64_t modified_ns) {
    const std::scoped_lock lock(mutex_);
    times_[key] = modified_ns;
  }
  // From now on a list says of what is put when that was, by the clock of now_ns().
  void tell_times() { tells_times_ = true; }
  void erase_object(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    objects_.erase(key);
  }
  void flip(const std::string& key, size_t offset) {
    const std::scoped_lock lock(mutex_);
    objects_.at(key).at(offset) ^= 0x40;
  }

  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override {
    const auto fault = begin({Call::kPut, key, {}});
    if (fault && !fault->took_effect) return failed(*fault, key);
    Bytes bytes(body.size);
    if (body.fd < 0) {
      bytes.assign(body.memory.begin(), body.memory.end());
    } else if (::pread(body.fd, bytes.data(), bytes.size(), static_cast<off_t>(body.offset)) !=
               static_cast<ssize_t>(bytes.size())) {
      return Error{Errc::kIo, "the body of " + key + " is shorter than it says"};
    }
    const std::scoped_lock lock(mutex_);
    if (mode == PutMode::kIfAbsent && !ignores_conditions_ && objects_.contains(key)) {
      return Error{Errc::kConflict, key + " is there already"};
    }
    objects_[key] = std::move(bytes);
    if (tells_times_) times_[key] = now_ns();
    if (fault) return failed(*fault, key);
    return {};
  }
  Result<Bytes> get(const std::string& key, uint64_t max_size) override {
    if (const auto fault = begin({Call::kGet, key, {}})) return failed(*fault, key);
    WALFS_ASSIGN(Bytes bytes, find(key));
    if (bytes.size() > max_size) return Error{Errc::kDamaged, key + " is too long"};
    return bytes;
  }
  Result<Bytes> get_range(const std::string& key, ByteRange range) override {
    if (const auto fault = begin({Call::kGetRange, key, range})) return failed(*fault, key);
    WALFS_ASSIGN(const Bytes bytes, find(key));
    if (range.offset > bytes.size() || range.size > bytes.size() - range.offset) {
      return Error{Errc::kDamaged, key + " ends before the range"};
    }
    const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(range.offset);
    return Bytes(first, first + static_cast<std::ptrdiff_t>(range.size));
  }
  Result<ObjectInfo> head(const std::string& key) override {
    if (const auto fault = begin({Call::kHead, key, {}})) return failed(*fault, key);
    WALFS_ASSIGN(const Bytes bytes, find(key));
    return ObjectInfo{key, bytes.size(), 0};
  }
  Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                       size_t limit) override {
    if (const auto fault = begin({Call::kList, prefix, {}})) return failed(*fault, prefix);
    const std::scoped_lock lock(mutex_);
    std::vector<ObjectInfo> found;
    const std::string& begin = std::max(prefix, after);
    for (auto object = objects_.lower_bound(begin); object != objects_.end(); ++object) {
      const auto& [key, bytes] = *object;
      if (found.size() == limit || !key.starts_with(prefix)) break;
      if (key <= after) continue;
      const auto time = times_.find(key);
      found.push_back({key, bytes.size(), time != times_.end() ? time->second : 0});
    }
    return found;
  }
  Status remove(const std::string& key) override {
    if (const auto fault = begin({Call::kRemove, key, {}})) return failed(*fault, key);
    const std::scoped_lock lock(mutex_);
    objects_.erase(key);
    times_.erase(key);
    return {};
  }
  std::string describe() const override { return "memory://test"; }

 private:
  struct Fault {
    Call call;
    Errc code;
    size_t count;
    size_t skip;
    std::string prefix;
    bool took_effect;
  };

  static Error failed(const Fault& fault, const std::string& key) {
    return Error{fault.code, "told to fail at " + key};
  }

  // Notes the request, waits while blocked, and says how it shall fail.
  std::optional<Fault> begin(Request request) {
    std::unique_lock lock(mutex_);
    requests_.push_back(request);
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_; });
    for (Fault& fault : faults_) {
      if (fault.call != request.call || !request.key.starts_with(fault.prefix) ||
          fault.count == 0) {
        continue;
      }
      if (fault.skip > 0) {
        --fault.skip;
        continue;
      }
      --fault.count;
      return fault;
    }
    return std::nullopt;
  }

  Result<Bytes> find(const std::string& key) const {
    const std::scoped_lock lock(mutex_);
    const auto object = objects_.find(key);
    if (object == objects_.end()) return Error{Errc::kNothingThere, "there is no " + key};
    return object->second;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool blocked_ = false;
  bool ignores_conditions_ = false;
  bool tells_times_ = false;
  std::atomic<bool> has_conditions_{true};
  std::vector<Fault> faults_;
  std::vector<Request> requests_;
  std::map<std::string, Bytes> objects_;
  std::map<std::string, int64_t> times_;
};

}  // namespace walfs::test
