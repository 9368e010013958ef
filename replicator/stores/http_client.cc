#include "replicator/stores/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <mutex>
#include <string_view>

#include "replicator/stores/object_body.h"

namespace walfs {
namespace {

constexpr size_t kMaxHeaders = 100;
constexpr size_t kMaxHeaderSize = 8 * 1024;
constexpr uint64_t kMaxErrorBody = 64 * 1024;
constexpr size_t kMaxIdleHandles = 16;
// A peer that drips bytes makes progress for ever; below this rate it gets ten times the timeout.
constexpr uint64_t kMinBytesPerMs = 16;

void init_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    // OpenSSL writes to a closed socket without MSG_NOSIGNAL; the program must not die of that.
    struct sigaction current {};
    if (sigaction(SIGPIPE, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
      signal(SIGPIPE, SIG_IGN);
    }
  });
}

// What the callbacks of one running request share.
struct Transfer {
  const HttpRequest& request;
  HttpResponse& response;
  const HttpLimits& limits;
  uint64_t sent = 0;
  uint64_t announced = 0;  // Content-Length of the answer, as far as it is believed.
  bool body_failed = false;
  bool too_long = false;
  bool timed_out = false;
  unsigned attempts = 0;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_progress = start;
  curl_off_t moved = 0;

  bool is_success() const { return response.status >= 200 && response.status < 300; }
  // A success may turn out to be an error whose status was sent too early.
  uint64_t max_body() const {
    return is_success() ? std::max(request.max_response, kMaxErrorBody) : kMaxErrorBody;
  }
};

size_t on_read(char* into, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const ObjectBody& body = *transfer.request.body;
  const uint64_t want = std::min<uint64_t>(size * count, body.size - transfer.sent);
  auto status =
      read_body(body, transfer.sent, {reinterpret_cast<uint8_t*>(into), static_cast<size_t>(want)});
  if (!status.ok()) {
    transfer.body_failed = true;
    transfer.response.fault_text = status.error().message;
    return CURL_READFUNC_ABORT;
  }
  transfer.sent += want;
  return want;
}

int on_seek(void* user, curl_off_t offset, int origin) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (origin != SEEK_SET || offset < 0 ||
      static_cast<uint64_t>(offset) > transfer.request.body->size) {
    return CURL_SEEKFUNC_FAIL;
  }
  transfer.sent = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

// libcurl sends a request again by itself when a reused connection dies. Our caller must know of
// every try (the first one may have been carried out), so the second try is stopped here.
int on_request(void* user, char*, char*, int, int) {
  auto& transfer = *static_cast<Transfer*>(user);
  return ++transfer.attempts > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

void on_status_line(Transfer& transfer, std::string_view line) {
  transfer.response.headers.clear();  // An interim answer (100) may have come before.
  transfer.response.status = 0;
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return;
  for (size_t i = space + 1; i < std::min(line.size(), space + 4); ++i) {
    if (line[i] < '0' || line[i] > '9') return;
    transfer.response.status = transfer.response.status * 10 + (line[i] - '0');
  }
}

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {
    on_status_line(transfer, line);
    return size * count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  if (transfer.response.headers.size() >= kMaxHeaders || line.size() > kMaxHeaderSize) {
    transfer.too_long = true;
    return 0;
  }
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string_view value = line.substr(colon + 1);
  const auto first = value.find_first_not_of(" \t");
  const auto last = value.find_last_not_of(" \t\r\n");
  value = first == std::string_view::npos || last == std::string_view::npos || last < first
              ? std::string_view()
              : value.substr(first, last - first + 1);
  if (name == "content-length") {
    std::from_chars(value.data(), value.data() + value.size(), transfer.announced);
  }
  transfer.response.headers.emplace_back(std::move(name), value);
  return size * count;
}

size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  Bytes& body = transfer.response.body;
  const uint64_t room = transfer.max_body() - body.size();
  const uint64_t got = size * count;
  if (got > room && transfer.is_success()) {
    transfer.too_long = true;
    return 0;
  }
  // Grown by hand: a vector's own doubling would take twice the limit.
  if (body.size() + got > body.capacity()) {
    const uint64_t wanted = std::max<uint64_t>(body.size() + got, uint64_t{2} * body.capacity());
    body.reserve(std::min(std::max(wanted, transfer.announced), transfer.max_body()));
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(data);
  body.insert(body.end(), bytes, bytes + std::min(got, room));
  return size * count;  // The rest of a long error text is read and dropped.
}

int on_progress(void* user, curl_off_t, curl_off_t down, curl_off_t, curl_off_t up) {
  auto& transfer = *static_cast<Transfer*>(user);
  const auto now = std::chrono::steady_clock::now();
  if (down + up != transfer.moved) {
    transfer.moved = down + up;
    transfer.last_progress = now;
  }
  const std::chrono::milliseconds timeout(transfer.limits.progress_timeout_ms);
  const std::chrono::milliseconds earned(static_cast<uint64_t>(transfer.moved) / kMinBytesPerMs);
  transfer.timed_out =
      now - transfer.last_progress > timeout || now - transfer.start > timeout * 10 + earned;
  return transfer.timed_out ? 1 : 0;
}

struct curl_slist* make_headers(const HttpRequest& request) {
  // Without "Expect:" a PUT waits up to a second for an interim answer that few services give.
  struct curl_slist* list = curl_slist_append(nullptr, "Expect:");
  for (const auto& [name, value] : request.headers) {
    std::string line = name;
    line += value.empty() ? ";" : ": " + value;
    list = curl_slist_append(list, line.c_str());
  }
  return list;
}

void set_method(CURL* handle, const HttpRequest& request, Transfer& transfer) {
  if (request.body != nullptr) {
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body->size));
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(handle, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(handle, CURLOPT_SEEKDATA, &transfer);
    curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
  } else if (request.method == "HEAD") {
    curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    return;
  }
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

void set_options(CURL* handle, const HttpRequest& request, Transfer& transfer, char* error_text) {
  const HttpLimits& limits = transfer.limits;
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect_timeout_ms));
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(handle, CURLOPT_PREREQFUNCTION, on_request);
  curl_easy_setopt(handle, CURLOPT_PREREQDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &transfer);
  if (!limits.ca_bundle.empty()) {
    curl_easy_setopt(handle, CURLOPT_CAINFO, limits.ca_bundle.c_str());
  }
  set_method(handle, request, transfer);
}

HttpFault fault_of(CURLcode code, const Transfer& transfer) {
  if (transfer.body_failed) return HttpFault::kLocal;
  if (transfer.too_long) return HttpFault::kTooLong;
  if (code == CURLE_OK) return HttpFault::kNone;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:  // Also a handshake that was reset, which passes.
      return HttpFault::kNotSent;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
      return HttpFault::kTls;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_FAILED_INIT:
      return HttpFault::kLocal;
    default:
      return transfer.attempts == 0 ? HttpFault::kNotSent : HttpFault::kBroken;
  }
}

std::string fault_text_of(CURLcode code, const Transfer& transfer, const char* error_text) {
  if (transfer.body_failed) return transfer.response.fault_text;
  if (transfer.too_long) return "the answer is too long";
  if (transfer.timed_out) return "no answer in time";
  if (code == CURLE_ABORTED_BY_CALLBACK) return "the connection was closed before an answer came";
  return error_text[0] != '\0' ? error_text : curl_easy_strerror(code);
}

}  // namespace

std::string header_value(const std::vector<NameValue>& headers, const std::string& lower_name) {
  for (const auto& [name, value] : headers) {
    if (name == lower_name) return value;
  }
  return "";
}

// Idle libcurl handles; each keeps its connections open for the next request.
class HttpClient::Handles {
 public:
  ~Handles() {
    for (CURL* handle : idle_) curl_easy_cleanup(handle);
  }
  CURL* take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return curl_easy_init();
    CURL* handle = idle_.back();
    idle_.pop_back();
    return handle;
  }
  void give_back(CURL* handle) {
    curl_easy_reset(handle);
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdleHandles) {
      idle_.push_back(handle);
    } else {
      curl_easy_cleanup(handle);
    }
  }

 private:
  std::mutex mutex_;
  std::vector<CURL*> idle_;
};

HttpClient::HttpClient(HttpLimits limits) : limits_(std::move(limits)) {
  init_curl_once();
  handles_ = std::make_unique<Handles>();
}

HttpClient::~HttpClient() = default;

HttpResponse HttpClient::perform(const HttpRequest& request) {
  HttpResponse response;
  CURL* handle = handles_->take();
  if (handle == nullptr) {
    response.fault = HttpFault::kLocal;
    response.fault_text = "libcurl cannot be used";
    return response;
  }
  char error_text[CURL_ERROR_SIZE] = "";
  Transfer transfer{request, response, limits_};
  struct curl_slist* headers = make_headers(request);
  set_options(handle, request, transfer, error_text);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  const CURLcode code = curl_easy_perform(handle);
  if (transfer.is_success() && response.body.size() > request.max_response)
    transfer.too_long = true;
  response.fault = fault_of(code, transfer);
  if (response.fault != HttpFault::kNone) {
    response.fault_text = fault_text_of(code, transfer, error_text);
  }
  curl_slist_free_all(headers);
  handles_->give_back(handle);
  return response;
}

}  // namespace walfs
