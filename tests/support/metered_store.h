// A store in memory before which a meter stands.
#pragma once

#include <map>
#include <string>
#include <unordered_map>

#include "replicator/stores/s3_upload.h"
#include "tests/support/memory_store.h"
#include "tests/support/store_usage.h"

namespace walfs::test {

// One request at a time.
class MeteredStore : public Store {
 public:
  explicit MeteredStore(MemoryStore& objects) : objects_(objects), meter_(now_ns(), kS3PartSize) {}

  // Until now.
  const Usage& usage() {
    meter_.pass_to(now_ns());
    return meter_.usage();
  }
  uint64_t requests() const {
    const Usage& usage = meter_.usage();
    return usage.puts + usage.lists + usage.gets + usage.deletes;
  }
  // Of keys that begin so, up to their last slash: "log/0", "chunks/ab", "".
  uint64_t puts(const std::string& folder) const {
    const auto found = puts_.find(folder);
    return found == puts_.end() ? 0 : found->second;
  }

  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override {
    const Status done = forgotten(objects_.put(key, body, mode));
    ++puts_[key.substr(0, key.find_last_of('/'))];
    if (!done.ok()) {
      meter_.count_put(body.size);
      return done;
    }
    const auto before = sizes_.find(key);
    if (before != sizes_.end()) meter_.remove(now_ns(), before->second);
    meter_.put(now_ns(), body.size);
    sizes_[key] = body.size;
    return done;
  }
  Result<Bytes> get(const std::string& key, uint64_t max_size) override {
    meter_.count_gets(1);
    return forgotten(objects_.get(key, max_size));
  }
  Result<Bytes> get_range(const std::string& key, ByteRange range) override {
    meter_.count_gets(1);
    return forgotten(objects_.get_range(key, range));
  }
  Result<ObjectInfo> head(const std::string& key) override {
    meter_.count_gets(1);
    return forgotten(objects_.head(key));
  }
  Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                       size_t limit) override {
    meter_.count_lists((limit + 999) / 1000);
    return forgotten(objects_.list(prefix, after, limit));
  }
  Status remove(const std::string& key) override {
    meter_.count_deletes(1);
    const auto before = sizes_.find(key);
    if (before != sizes_.end()) {
      meter_.remove(now_ns(), before->second);
      sizes_.erase(before);
    }
    return forgotten(objects_.remove(key));
  }
  std::string describe() const override { return objects_.describe(); }

 private:
  // A year's requests would not fit into memory.
  template <typename Answer>
  Answer forgotten(Answer answer) {
    objects_.forget_requests();
    return answer;
  }

  MemoryStore& objects_;
  UsageMeter meter_;
  std::unordered_map<std::string, uint64_t> sizes_;
  std::map<std::string, uint64_t> puts_;
};

}  // namespace walfs::test
