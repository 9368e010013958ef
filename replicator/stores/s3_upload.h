// Uploading one object: in one request, or in parts when it is large.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "replicator/stores/s3_client.h"

namespace walfs {

inline constexpr uint64_t kS3PartSize = uint64_t{16} << 20;
inline constexpr uint64_t kS3PartsMax = 10000;

// 16 MiB, or more where 10000 such parts would not do.
uint64_t s3_part_size(uint64_t body_size);

// `full_key` is the key in the bucket, `key` the one for messages. `has_conditions` is what is
// known of the service, and becomes false when it refuses a condition but not the same upload
// without it.
Status s3_upload(S3Client& client, std::atomic<bool>& has_conditions, const std::string& full_key,
                 const std::string& key, const ObjectBody& body, PutMode mode);

}  // namespace walfs
