#include "replicator/stores/s3_store.h"

#include <algorithm>

#include "replicator/stores/object_key.h"
#include "replicator/stores/s3_upload.h"
#include "replicator/stores/s3_xml.h"

namespace walfs {
namespace {

constexpr unsigned kEmptyPagesMax = 100;

// One run through the pages of a list.
class Lister {
 public:
  Lister(S3Client& client, std::string key_root, std::string prefix, std::string after,
         size_t limit)
      : client_(client),
        key_root_(std::move(key_root)),
        prefix_(std::move(prefix)),
        last_key_(std::move(after)),
        limit_(limit) {}

  Result<std::vector<ObjectInfo>> run() {
    std::string token;
    unsigned empty_pages = 0;
    while (found_.size() < limit_) {
      WALFS_ASSIGN(const S3ListPage page, fetch(token));
      WALFS_TRY(add(page));
      if (!page.truncated) break;
      empty_pages = page.entries.empty() ? empty_pages + 1 : 0;
      if (page.next_token == token || empty_pages == kEmptyPagesMax) {
        return Error{Errc::kDamaged, "the store's list of " + prefix_ + " never ends"};
      }
      token = page.next_token;
    }
    return std::move(found_);
  }

 private:
  Result<S3ListPage> fetch(const std::string& token) {
    S3Call call;
    call.action = "cannot list the objects of the replica";
    call.method = "GET";
    call.query = {{"list-type", "2"},
                  {"encoding-type", "url"},
                  {"prefix", key_root_ + prefix_},
                  {"max-keys", std::to_string(std::min(limit_ - found_.size(), kMaxS3ListPage))}};
    if (!token.empty()) {
      call.query.emplace_back("continuation-token", token);
    } else if (!last_key_.empty()) {
      call.query.emplace_back("start-after", key_root_ + last_key_);
    }
    WALFS_ASSIGN(const S3Reply reply, client_.call(call));
    if (!reply.ok()) return client_.error(call, reply);
    return parse_s3_list(reply.response.body);
  }

  Status add(const S3ListPage& page) {
    for (const S3ListEntry& entry : page.entries) {
      if (found_.size() == limit_) break;
      if (!entry.key.starts_with(key_root_ + prefix_)) {
        return Error{Errc::kDamaged, "the store lists objects that it was not asked for"};
      }
      std::string key = entry.key.substr(key_root_.size());
      if (!is_valid_key(key)) continue;  // Not one of ours.
      if (key <= last_key_) {
        return Error{Errc::kUnsupported, "the store does not list objects in the order of keys"};
      }
      last_key_ = key;
      found_.push_back({std::move(key), entry.size, entry.modified_ns});
    }
    return {};
  }

  S3Client& client_;
  const std::string key_root_;
  const std::string prefix_;
  std::string last_key_;
  const size_t limit_;
  std::vector<ObjectInfo> found_;
};

}  // namespace

S3Store::S3Store(S3Url url, Credentials credentials, const StoreOptions& options,
                 const std::string& ca_bundle)
    : client_(std::move(url), std::move(credentials), options, ca_bundle) {}

std::string S3Store::full_key(const std::string& key) const {
  const std::string& prefix = client_.url().prefix;
  return prefix.empty() ? key : prefix + "/" + key;
}

Status S3Store::put(const std::string& key, const ObjectBody& body, PutMode mode) {
  WALFS_TRY(check_key(key));
  return s3_upload(client_, has_conditions_, full_key(key), key, body, mode);
}

Result<Bytes> S3Store::get(const std::string& key, uint64_t max_size) {
  WALFS_TRY(check_key(key));
  S3Call call;
  call.action = "cannot read " + key;
  call.method = "GET";
  call.key = full_key(key);
  call.max_response = max_size;
  WALFS_ASSIGN(S3Reply reply, client_.call(call));
  if (!reply.ok()) return client_.error(call, reply);
  if (reply.response.status != 200) {
    return Error{Errc::kRetry, call.action + ": the store answers " +
                                   std::to_string(reply.response.status) +
                                   " instead of the object"};
  }
  return std::move(reply.response.body);
}

Result<Bytes> S3Store::get_range(const std::string& key, ByteRange range) {
  WALFS_TRY(check_key(key));
  if (range.size > UINT64_MAX - range.offset) {
    return Error{Errc::kUsage, "the range of " + key + " is too large"};
  }
  if (range.size == 0) {  // HTTP has no empty ranges.
    WALFS_ASSIGN(const ObjectInfo info, head(key));
    if (range.offset <= info.size) return Bytes();
    return Error{Errc::kDamaged, "cannot read " + key + ": the object is shorter than expected"};
  }
  S3Call call;
  call.action = "cannot read a part of " + key;
  call.method = "GET";
  call.key = full_key(key);
  call.max_response = range.size;
  call.headers = {{"range", "bytes=" + std::to_string(range.offset) + "-" +
                                std::to_string(range.offset + range.size - 1)}};
  WALFS_ASSIGN(S3Reply reply, client_.call(call));
  if (!reply.ok()) return client_.error(call, reply);
  if (reply.response.status != 206) {
    return Error{Errc::kUnsupported, call.action + ": the store cannot send parts of objects"};
  }
  if (reply.response.body.size() != range.size) {
    return Error{Errc::kDamaged, call.action + ": the object is shorter than expected"};
  }
  return std::move(reply.response.body);
}

Result<ObjectInfo> S3Store::head(const std::string& key) {
  WALFS_TRY(check_key(key));
  S3Call call;
  call.action = "cannot look for " + key;
  call.method = "HEAD";
  call.key = full_key(key);
  WALFS_ASSIGN(const S3Reply reply, client_.call(call));
  if (!reply.ok()) return client_.error(call, reply);
  const auto size = parse_decimal(header_value(reply.response.headers, "content-length"));
  if (!size) return Error{Errc::kDamaged, call.action + ": the store does not say its size"};
  return ObjectInfo{key, *size, 0};
}

Result<std::vector<ObjectInfo>> S3Store::list(const std::string& prefix, const std::string& after,
                                              size_t limit) {
  WALFS_TRY(check_key_prefix(prefix));
  const std::string& root = client_.url().prefix;
  return Lister(client_, root.empty() ? "" : root + "/", prefix, after, limit).run();
}

Status S3Store::remove(const std::string& key) {
  WALFS_TRY(check_key(key));
  S3Call call;
  call.action = "cannot remove " + key;
  call.method = "DELETE";
  call.key = full_key(key);
  WALFS_ASSIGN(const S3Reply reply, client_.call(call));
  const bool gone =
      reply.response.status == 404 && (!reply.error || reply.error->code == "NoSuchKey");
  if (reply.ok() || gone) return {};
  return client_.error(call, reply);
}

std::string S3Store::describe() const {
  return to_string(client_.url());
}

}  // namespace walfs
