#include "tests/support/fault_proxy.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <sstream>

#include "replicator/stores/sigv4.h"

namespace walfs::test {
namespace {

constexpr int kPollMs = 10;
constexpr int kDripMs = 50;

struct sockaddr_in loopback(int port) {
  struct sockaddr_in address {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

bool send_all(int fd, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t sent = send(fd, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    done += static_cast<size_t>(sent);
  }
  return true;
}

// The closing is a reset.
void set_reset(int fd) {
  const struct linger no_linger = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof(no_linger));
}

// The value of a header in a head, or "".
std::string header(const std::string& head, const std::string& lower_name) {
  std::string lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const size_t at = lower.find("\r\n" + lower_name + ":");
  if (at == std::string::npos) return "";
  const size_t start = head.find_first_not_of(' ', at + lower_name.size() + 3);
  return head.substr(start, head.find("\r\n", start) - start);
}

// Our side closes after each answer, and so shall theirs.
std::string with_close(const std::string& text) {
  const size_t end = text.find("\r\n");
  return text.substr(0, end) + "\r\nConnection: close" + text.substr(end);
}

// How long the answer is, as far as it can be told from its beginning; 0 = not yet.
size_t answer_size(const std::string& method, const std::string& text) {
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) return 0;
  const std::string head = text.substr(0, end + 2);
  const std::string length = header(head, "content-length");
  const bool bodyless = method == "HEAD" || head.substr(0, 20).find(" 204") != std::string::npos;
  if (bodyless) return end + 4;
  return length.empty() ? 0 : end + 4 + std::strtoul(length.c_str(), nullptr, 10);
}

// A request as if it had never had a condition. That was signed, too, and so the rest is signed
// anew. Only for requests without a query, whose headers curl sends as the program names them.
std::string without_condition(const std::string& text) {
  const size_t body = text.find("\r\n\r\n") + 2;
  size_t at = text.find("\r\n") + 2;
  std::string kept = text.substr(0, at);
  SigV4Request request;
  std::istringstream(kept) >> request.method >> request.path;
  while (at < body) {
    const std::string line = text.substr(at, text.find("\r\n", at) + 2 - at);
    at += line.size();
    const std::string name = line.substr(0, line.find(':'));
    if (name == "if-none-match" || name == "authorization") continue;
    if (name == "host" || name.starts_with("x-amz-"))
      request.headers.emplace_back(name, header("\r\n" + line, name));
    kept += line;
  }
  request.payload_sha256 = header(text, "x-amz-content-sha256");
  const SigV4Scope scope = {"us-east-1", "s3", header(text, "x-amz-date")};
  const Credentials keys = {std::getenv("AWS_ACCESS_KEY_ID"), std::getenv("AWS_SECRET_ACCESS_KEY"),
                            ""};
  return kept + "authorization: " + sigv4_authorization(keys, scope, request) + "\r\n" +
         text.substr(body);
}

std::string make_answer(const std::string& status, const std::string& headers,
                        const std::string& code) {
  const std::string body = code.empty() ? ""
                                        : "<?xml version=\"1.0\"?><Error><Code>" + code +
                                              "</Code><Message>injected</Message></Error>";
  return "HTTP/1.1 " + status + "\r\n" + headers +
         "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

FaultProxy::FaultProxy(const std::string& upstream, unsigned seed) : random_(seed) {
  upstream_port_ = std::atoi(upstream.substr(upstream.rfind(':') + 1).c_str());
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(listener_, reinterpret_cast<struct sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(listener_, 64), 0);
  EXPECT_EQ(getsockname(listener_, reinterpret_cast<struct sockaddr*>(&address), &size), 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

FaultProxy::~FaultProxy() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  close(listener_);
}

void FaultProxy::inject(FaultRule rule) {
  const std::scoped_lock lock(mutex_);
  rules_.push_back(std::move(rule));
}

void FaultProxy::heal() {
  const std::scoped_lock lock(mutex_);
  rules_.clear();
  faults_ = 0;
  ++generation_;
}

void FaultProxy::accept_all() {
  while (!stopping_) {
    struct pollfd polled = {listener_, POLLIN, 0};
    if (poll(&polled, 1, kPollMs) <= 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    connections_.emplace_back([this, client] {
      serve(client);
      close(client);
    });
  }
}

bool FaultProxy::read_head(int client, std::string& text, size_t& head_size) {
  char buffer[4096];
  while (!stopping_) {
    struct pollfd polled = {client, POLLIN, 0};
    if (poll(&polled, 1, kPollMs) <= 0) continue;
    const ssize_t got = recv(client, buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    text.append(buffer, static_cast<size_t>(got));
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    head_size = end + 4;
    return true;
  }
  return false;
}

void FaultProxy::serve(int client) {
  Request request;
  size_t head_size = 0;
  if (!read_head(client, request.text, head_size)) return;
  ++requests_;
  request.method = request.text.substr(0, request.text.find(' '));
  const std::string head = request.text.substr(0, head_size);
  bool applies = false;
  const FaultRule rule = choose(head, applies);
  size_t wanted = head_size + std::strtoul(header(head, "content-length").c_str(), nullptr, 10);
  const bool cut = applies && rule.fault == Fault::kResetInRequest;
  if (cut) wanted = std::min(wanted, head_size + rule.bytes);
  char buffer[65536];
  while (request.text.size() < wanted) {
    const ssize_t got =
        recv(client, buffer, std::min(sizeof(buffer), wanted - request.text.size()), 0);
    if (got <= 0) return;
    request.text.append(buffer, static_cast<size_t>(got));
  }
  if (cut) return set_reset(client);
  if (!applies) {
    send_all(client, pass_on(request));
  } else {
    apply(rule, client, request);
  }
}

FaultRule FaultProxy::choose(const std::string& head, bool& applies) {
  std::string method, target;
  std::istringstream(head) >> method >> target;
  const std::scoped_lock lock(mutex_);
  for (const FaultRule& rule : rules_) {
    if (!rule.method.empty() && rule.method != method) continue;
    if (target.find(rule.path) == std::string::npos) continue;
    if (!rule.header.empty() && header(head, rule.header).empty()) continue;
    if (rule.fault == Fault::kIgnoredDelete && method != "DELETE") continue;
    if (random_() % 100 >= rule.percent) continue;
    ++faults_;
    applies = true;
    return rule;
  }
  return {};
}

void FaultProxy::apply(const FaultRule& rule, int client, const Request& request) {
  switch (rule.fault) {
    case Fault::kStatus: {
      const bool busy = rule.status == 503;
      const std::string retry = "Retry-After: " + std::to_string(rule.retry_after_s) + "\r\n";
      const char* code = rule.status == 501 ? "NotImplemented" : "InternalError";
      send_all(client, make_answer(std::to_string(rule.status) + " Injected", busy ? retry : "",
                                   busy ? "SlowDown" : code));
      return;
    }
    case Fault::kErrorInSuccess:
      send_all(client, make_answer("200 OK", "ETag: \"0\"\r\n", "InternalError"));
      return;
    case Fault::kIgnoredDelete:
      send_all(client, make_answer("204 No Content", "", ""));
      return;
    case Fault::kNoAnswer:
      return hold(client, "", rule);
    case Fault::kDrip:
      return hold(client, pass_on(request), rule);
    case Fault::kResetInAnswer:
      send_all(client, pass_on(request).substr(0, rule.bytes));
      return set_reset(client);
    case Fault::kTruncatedBody: {
      const std::string answer = pass_on(request);
      const size_t head_size = answer.find("\r\n\r\n") + 4;
      const size_t body_size = answer.size() - std::min(head_size, answer.size());
      send_all(client,
               answer.substr(0, body_size == 0 ? head_size / 2 : head_size + body_size / 2));
      return;
    }
    case Fault::kDelay:
      std::this_thread::sleep_for(std::chrono::milliseconds(rule.delay_ms));
      send_all(client, pass_on(request));
      return;
    case Fault::kLostAnswer:
      pass_on(request);
      return;
    case Fault::kUnconditional:
      send_all(client, pass_on({request.method, without_condition(request.text)}));
      return;
    case Fault::kTwice:
      pass_on(request);
      send_all(client, pass_on(request));
      return;
    case Fault::kResetInRequest:
      return;  // Done before the request was read.
  }
}

// The whole answer; "" when the upstream gave none.
std::string FaultProxy::pass_on(const Request& request) {
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const struct sockaddr_in address = loopback(upstream_port_);
  std::string answer;
  if (connect(server, reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) == 0 &&
      send_all(server, with_close(request.text))) {
    char buffer[65536];
    while (!stopping_) {
      struct pollfd polled = {server, POLLIN, 0};
      if (poll(&polled, 1, kPollMs) <= 0) continue;
      const ssize_t got = recv(server, buffer, sizeof(buffer), 0);
      if (got <= 0) break;
      answer.append(buffer, static_cast<size_t>(got));
      const size_t size = answer_size(request.method, answer);
      if (size > 0 && answer.size() >= size) break;
    }
  }
  close(server);
  return answer.empty() ? answer : with_close(answer);
}

// Until the client gives up or heal() is called. Sends the answer as the rule drips.
void FaultProxy::hold(int client, const std::string& answer, const FaultRule& rule) {
  const unsigned generation = generation_;
  const int pause_ms = rule.delay_ms > 0 ? rule.delay_ms : kDripMs;
  size_t sent = 0;
  while (!is_over(generation)) {
    struct pollfd polled = {client, POLLIN, 0};
    char ignored[64];
    if (poll(&polled, 1, pause_ms) > 0 && recv(client, ignored, sizeof(ignored), 0) <= 0) return;
    const bool drips = rule.bytes == 0 || sent < rule.bytes;
    const std::string part = answer.substr(sent, drips ? 1 : std::string::npos);
    if (!part.empty() && !send_all(client, part)) return;
    sent += part.size();
  }
  set_reset(client);
}

}  // namespace walfs::test
