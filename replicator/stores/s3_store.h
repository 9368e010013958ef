// A replica in a bucket of any S3-compatible service.
//
// kIfAbsent uses `If-None-Match: *`. Each such upload carries a random mark in its metadata, so
// that after a lost answer our own object is told from another writer's with the same content. A
// service that answers the condition with 501 or 400 is asked for the object before each such put.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "replicator/stores/s3_client.h"
#include "replicator/stores/store.h"

namespace walfs {

class S3Store final : public Store {
 public:
  S3Store(S3Url url, Credentials credentials, const StoreOptions& options,
          const std::string& ca_bundle);

  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override;
  Result<Bytes> get(const std::string& key, uint64_t max_size) override;
  Result<Bytes> get_range(const std::string& key, ByteRange range) override;
  Result<ObjectInfo> head(const std::string& key) override;
  Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                       size_t limit) override;
  Status remove(const std::string& key) override;
  bool has_conditional_put() const override { return has_conditions_; }
  std::string describe() const override;

 private:
  std::string full_key(const std::string& key) const;

  S3Client client_;
  std::atomic<bool> has_conditions_{true};
};

}  // namespace walfs
