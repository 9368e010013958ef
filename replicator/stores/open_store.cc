#include "replicator/stores/credentials.h"
#include "replicator/stores/file_store.h"
#include "replicator/stores/s3_store.h"
#include "replicator/stores/store.h"
#include "replicator/stores/store_url.h"

namespace walfs {
namespace {

Result<std::unique_ptr<Store>> open_s3_store(S3Url url, const StoreOptions& options) {
  WALFS_ASSIGN(const Settings settings, read_settings(options.credentials_file));
  WALFS_ASSIGN(Credentials credentials, find_credentials(settings, environment_variable));
  if (url.region.empty()) url.region = find_region(settings, environment_variable);
  if (url.region.empty() && url.endpoint.empty()) {
    return Error{Errc::kUsage,
                 "the replica's URL names no region; add ?region=NAME to it or set AWS_REGION"};
  }
  // Services other than AWS have one region, which most call by the name of AWS's first.
  if (url.region.empty()) url.region = "us-east-1";
  return std::unique_ptr<Store>(
      std::make_unique<S3Store>(std::move(url), std::move(credentials), options,
                                find_setting(settings, environment_variable, "AWS_CA_BUNDLE")));
}

}  // namespace

Result<std::unique_ptr<Store>> open_store(const std::string& url, const StoreOptions& options,
                                          bool create) {
  WALFS_ASSIGN(StoreUrl parsed, parse_store_url(url));
  if (const auto* file = std::get_if<FileUrl>(&parsed)) return open_file_store(file->path, create);
  return open_s3_store(std::move(std::get<S3Url>(parsed)), options);
}

}  // namespace walfs
