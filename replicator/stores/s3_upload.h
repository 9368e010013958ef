// Uploading one object: in one request, or in parts when it is large.
#pragma once

#include <cstdint>
#include <string>

#include "replicator/stores/s3_client.h"

namespace walfs {

inline constexpr uint64_t kS3PartSize = uint64_t{16} << 20;
inline constexpr uint64_t kS3PartsMax = 10000;

// 16 MiB, or more where 10000 such parts would not do.
uint64_t s3_part_size(uint64_t body_size);

// `full_key` is the key in the bucket, `key` the one for messages.
Status s3_upload(S3Client& client, const std::string& full_key, const std::string& key,
                 const ObjectBody& body, PutMode mode);

}  // namespace walfs
