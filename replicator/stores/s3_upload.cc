#include "replicator/stores/s3_upload.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "replicator/base/digest.h"
#include "replicator/stores/object_body.h"

namespace walfs {
namespace {

constexpr const char* kMarkHeader = "x-amz-meta-walfs-put";
constexpr unsigned kConflictTriesMax = 5;

std::string random_mark() {
  std::array<uint8_t, 16> bytes{};
  // At most 256 bytes from the urandom source: never short, fails only on kernels before 3.17.
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return "";
  return to_hex(bytes);
}

class Upload {
 public:
  Upload(S3Client& client, std::atomic<bool>& has_conditions, std::string full_key,
         const std::string& key, const ObjectBody& body, PutMode mode)
      : client_(client),
        has_conditions_(has_conditions),
        key_(std::move(full_key)),
        action_("cannot upload " + key),
        body_(body),
        if_absent_(mode == PutMode::kIfAbsent),
        mark_(random_mark()) {}

  Status in_one_request();
  Status in_parts();

 private:
  S3Call make_call(std::string method) const;
  Result<S3Reply> call_if_absent(S3Call call);
  Status check_absent();
  Result<bool> is_ours();
  Result<bool> has_same_content(uint64_t size);
  Status settle(const S3Call& call, const S3Reply& reply);
  Status confirm(const S3Reply& reply);
  Result<std::string> begin();
  Status send_parts(const std::string& upload_id, std::vector<std::string>& etags);
  Status complete(const std::string& upload_id, const std::vector<std::string>& etags);
  void abort(const std::string& upload_id);

  S3Client& client_;
  std::atomic<bool>& has_conditions_;
  const std::string key_;
  const std::string action_;
  const ObjectBody& body_;
  const bool if_absent_;
  const std::string mark_;
};

S3Call Upload::make_call(std::string method) const {
  S3Call call;
  call.action = action_;
  call.method = std::move(method);
  call.key = key_;
  return call;
}

// The request with the condition; where the service refuses that, without it after a look.
Result<S3Reply> Upload::call_if_absent(S3Call call) {
  if (has_conditions_) {
    call.headers.emplace_back("if-none-match", "*");
    WALFS_ASSIGN(S3Reply reply, client_.call(call));
    const int status = reply.response.status;
    if (status != 501 && status != 400) return reply;
    call.headers.pop_back();
  }
  WALFS_TRY(check_absent());
  WALFS_ASSIGN(S3Reply reply, client_.call(call));
  if (reply.ok()) has_conditions_ = false;
  return reply;
}

Status Upload::in_one_request() {
  S3Call call = make_call("PUT");
  call.body = &body_;
  if (if_absent_) call.headers = {{kMarkHeader, mark_}};
  for (unsigned tries = 1;; ++tries) {
    WALFS_ASSIGN(const S3Reply reply, if_absent_ ? call_if_absent(call) : client_.call(call));
    if (reply.ok()) return confirm(reply);
    // 409 says that another request for this key is under way: who has won is known only after it.
    const bool undecided = if_absent_ && reply.response.status == 409;
    if (!undecided || tries == kConflictTriesMax) return settle(call, reply);
  }
}

// Anybody between us and the service can say 200. The service itself, which has checked the
// content by its signed SHA-256, gives an ETag; without one it is asked whether it has the object.
Status Upload::confirm(const S3Reply& reply) {
  if (!header_value(reply.response.headers, "etag").empty()) return {};
  S3Call call = make_call("HEAD");
  WALFS_ASSIGN(const S3Reply there, client_.call(call));
  if (!there.ok() && there.response.status != 404) return client_.error(call, there);
  const std::string size = header_value(there.response.headers, "content-length");
  if (there.ok() && size == std::to_string(body_.size)) return {};
  return Error{Errc::kRetry, action_ + ": the store said that it has it, but it has not"};
}

// Turns a failed upload into success when what is there is what an earlier try of ours
// has put there.
Status Upload::settle(const S3Call& call, const S3Reply& reply) {
  const int status = reply.response.status;
  const bool lost = if_absent_ && (status == 412 || status == 409);
  // An upload in parts that was completed is not found again.
  const bool completed = call.method == "POST" && status == 404;
  if (reply.repeated && (lost || completed)) {
    WALFS_ASSIGN(const bool ours, is_ours());
    if (ours) return {};
  }
  return client_.error(call, reply);
}

Result<bool> Upload::is_ours() {
  S3Call call = make_call("HEAD");
  WALFS_ASSIGN(const S3Reply reply, client_.call(call));
  if (reply.response.status == 404) return false;
  if (!reply.ok()) return client_.error(call, reply);
  const std::string mark = header_value(reply.response.headers, kMarkHeader);
  if (!mark.empty()) return mark == mark_;
  // The service keeps no metadata: the content has to decide.
  const std::string size = header_value(reply.response.headers, "content-length");
  if (size != std::to_string(body_.size)) return false;
  return has_same_content(body_.size);
}

Result<bool> Upload::has_same_content(uint64_t size) {
  for (uint64_t at = 0; at < size;) {
    const uint64_t piece = std::min(size - at, kS3PartSize);
    S3Call call = make_call("GET");
    call.max_response = piece;
    call.headers = {
        {"range", "bytes=" + std::to_string(at) + "-" + std::to_string(at + piece - 1)}};
    WALFS_ASSIGN(const S3Reply reply, client_.call(call));
    if (!reply.ok()) return client_.error(call, reply);
    Bytes mine(piece);
    WALFS_TRY(read_body(body_, at, mine));
    if (mine != reply.response.body) return false;
    at += piece;
  }
  return true;
}

Status Upload::check_absent() {
  S3Call call = make_call("HEAD");
  WALFS_ASSIGN(const S3Reply reply, client_.call(call));
  if (reply.response.status == 404) return {};
  if (!reply.ok()) return client_.error(call, reply);
  return Error{Errc::kConflict, action_ + ": it is there already"};
}

Result<std::string> Upload::begin() {
  const ObjectBody empty;
  S3Call call = make_call("POST");
  call.query = {{"uploads", ""}};
  call.body = &empty;
  call.headers = {{kMarkHeader, mark_}};
  WALFS_ASSIGN(const S3Reply reply, client_.call(call));
  if (!reply.ok()) return client_.error(call, reply);
  return parse_s3_upload_id(reply.response.body);
}

Status Upload::send_parts(const std::string& upload_id, std::vector<std::string>& etags) {
  const uint64_t part_size = s3_part_size(body_.size);
  for (uint64_t at = 0; at < body_.size; at += part_size) {
    const ObjectBody part = body_part(body_, at, std::min(part_size, body_.size - at));
    S3Call call = make_call("PUT");
    call.query = {{"partNumber", std::to_string(etags.size() + 1)}, {"uploadId", upload_id}};
    call.body = &part;
    WALFS_ASSIGN(const S3Reply reply, client_.call(call));
    if (!reply.ok()) return client_.error(call, reply);
    etags.push_back(header_value(reply.response.headers, "etag"));
    if (etags.back().empty()) {
      return Error{Errc::kDamaged, action_ + ": the store's answer to a part has no ETag"};
    }
  }
  return {};
}

Status Upload::complete(const std::string& upload_id, const std::vector<std::string>& etags) {
  const std::string text = s3_complete_request(etags);
  const ObjectBody request_body = ObjectBody::of(text);
  S3Call call = make_call("POST");
  call.query = {{"uploadId", upload_id}};
  call.body = &request_body;
  WALFS_ASSIGN(const S3Reply reply, if_absent_ ? call_if_absent(call) : client_.call(call));
  if (reply.ok()) return {};
  return settle(call, reply);
}

void Upload::abort(const std::string& upload_id) {
  S3Call call = make_call("DELETE");
  call.query = {{"uploadId", upload_id}};
  // What is left behind costs space until the bucket's own rules remove it; nothing else is lost.
  const auto ignored = client_.call(call);
  static_cast<void>(ignored);
}

Status Upload::in_parts() {
  // Some services ignore the condition when they complete an upload: this narrows the gap there.
  if (if_absent_) WALFS_TRY(check_absent());
  WALFS_ASSIGN(const std::string upload_id, begin());
  std::vector<std::string> etags;
  Status status = send_parts(upload_id, etags);
  if (status.ok()) status = complete(upload_id, etags);
  if (!status.ok()) abort(upload_id);
  return status;
}

}  // namespace

uint64_t s3_part_size(uint64_t body_size) {
  constexpr uint64_t kMib = uint64_t{1} << 20;
  const uint64_t needed = body_size / kS3PartsMax + 1;
  return std::max(kS3PartSize, (needed + kMib - 1) / kMib * kMib);
}

Status s3_upload(S3Client& client, std::atomic<bool>& has_conditions, const std::string& full_key,
                 const std::string& key, const ObjectBody& body, PutMode mode) {
  Upload upload(client, has_conditions, full_key, key, body, mode);
  return body.size > kS3PartSize ? upload.in_parts() : upload.in_one_request();
}

}  // namespace walfs
