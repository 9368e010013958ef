// The few XML documents of the S3 protocol that we read and write. Pure; input is untrusted.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ (ListObjectsV2, CreateMultipartUpload,
// CompleteMultipartUpload, ErrorResponses)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

namespace walfs {

// Digits only; nothing for anything else or an overflow.
std::optional<uint64_t> parse_decimal(std::string_view text);

inline constexpr size_t kMaxS3XmlSize = size_t{8} << 20;  // A page of 1000 keys is below 4 MiB.
inline constexpr size_t kMaxS3ListPage = 1000;

struct S3ListEntry {
  std::string key;
  uint64_t size = 0;
  int64_t modified_ns = 0;  // 0 if the answer does not tell it in the way of S3.
};
struct S3ListPage {
  std::vector<S3ListEntry> entries;  // At most kMaxS3ListPage.
  bool truncated = false;
  std::string next_token;  // Not empty when truncated.
};
// kDamaged for anything that is not such a page.
Result<S3ListPage> parse_s3_list(ByteView xml);

struct S3ErrorBody {
  std::string code;     // "NoSuchKey"; letters, digits and dots only.
  std::string message;  // Printable, at most some 300 bytes.
  std::string region;   // The right one, when the answer names it.
};
// Nothing when it is not an error document.
std::optional<S3ErrorBody> parse_s3_error(ByteView xml);

// The upload id in the answer to CreateMultipartUpload.
Result<std::string> parse_s3_upload_id(ByteView xml);

// The request of CompleteMultipartUpload; part numbers count from 1.
std::string s3_complete_request(const std::vector<std::string>& etags);

}  // namespace walfs
