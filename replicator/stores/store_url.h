// The URLs that name a replica. Pure.
//
//   file:///absolute/directory                                  taken literally, nothing is decoded
//   s3://BUCKET[/PREFIX][?endpoint=URL&region=R&style=path|virtual]
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "replicator/base/result.h"

namespace walfs {

struct FileUrl {
  std::string path;  // Absolute, without a slash at its end.
};

struct S3Url {
  std::string bucket;
  std::string prefix;       // "" or parts joined by slashes, without a slash at either end.
  std::string endpoint;     // "" for AWS, else http[s]://host[:port][/path].
  std::string region;       // "" when the URL does not say.
  bool path_style = false;  // endpoint/bucket/key, else bucket.endpoint/key.
};

using StoreUrl = std::variant<FileUrl, S3Url>;

// kUsage with a sentence that says what is wrong and what a right URL looks like.
Result<StoreUrl> parse_store_url(std::string_view url);

// Where requests for the bucket go.
struct S3Target {
  std::string scheme;     // http or https
  std::string host;       // With the port when it is not the scheme's own.
  std::string base_path;  // "" or /path, before the key: holds the bucket in path style.
};

// `url` has a region here.
S3Target s3_target(const S3Url& url);

// The URL again, in its shortest form.
std::string to_string(const S3Url& url);

}  // namespace walfs
