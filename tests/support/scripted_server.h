// An HTTP server on loopback that gives the answers of a script, faults included, and records what
// it was asked. One thread serves all connections, one request after the other.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace walfs::testing {

struct RecordedRequest {
  std::string method;
  std::string target;
  std::string head;  // All header lines, names as sent.
  std::string body;
  int connection = 0;  // Counts from 0.

  // "" when there is none; `name` in lower case, as our client sends it.
  std::string header(const std::string& name) const {
    const std::string line = "\r\n" + name + ": ";
    const size_t at = head.find(line);
    if (at == std::string::npos) return "";
    const size_t start = at + line.size();
    return head.substr(start, head.find("\r\n", start) - start);
  }
};

struct ScriptedAnswer {
  enum class Then { kKeep, kClose, kReset, kStall, kDrip };
  std::string text;  // Sent as it is.
  Then then = Then::kKeep;
};
// Makes the answer when the request is there, from all requests so far.
using ScriptStep = std::function<ScriptedAnswer(const std::vector<RecordedRequest>&)>;

inline std::string http_answer(const std::string& status, const std::string& body,
                               const std::string& headers = "") {
  return "HTTP/1.1 " + status + "\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string s3_error_answer(const std::string& status, const std::string& code,
                                   const std::string& headers = "", const std::string& more = "") {
  return http_answer(status,
                     "<?xml version=\"1.0\"?><Error><Code>" + code +
                         "</Code><Message>told you</Message>" + more + "</Error>",
                     headers);
}
inline ScriptStep answer(std::string text,
                         ScriptedAnswer::Then then = ScriptedAnswer::Then::kKeep) {
  return [text = std::move(text), then](const auto&) { return ScriptedAnswer{text, then}; };
}
inline ScriptStep close_without_answer() {
  return answer("", ScriptedAnswer::Then::kClose);
}

class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<ScriptStep> script) : script_(std::move(script)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<struct sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<struct sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() { stop(); }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // Ends the server; what it was asked.
  const std::vector<RecordedRequest>& stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    for (Connection& connection : connections_) close_now(connection);
    if (listener_ >= 0) close(listener_);
    listener_ = -1;
    return requests_;
  }

 private:
  struct Connection {
    int fd;
    int number;
    std::string received;
    bool dripping = false;
  };

  void serve() {
    while (!stopping_) {
      std::vector<struct pollfd> polled = {{listener_, POLLIN, 0}};
      for (const Connection& connection : connections_) {
        polled.push_back({connection.fd, POLLIN, 0});
      }
      poll(polled.data(), polled.size(), 10);
      // New connections come last, so that the positions stay those of `polled`.
      for (size_t i = 0; i < connections_.size(); ++i) {
        if (connections_[i].dripping) send_all(connections_[i].fd, "x");
        if (polled[i + 1].revents != 0) receive(connections_[i]);
      }
      std::erase_if(connections_, [](const Connection& connection) { return connection.fd < 0; });
      if (polled[0].revents != 0) {
        const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) connections_.push_back({fd, accepted_++, "", false});
      }
    }
  }

  void receive(Connection& connection) {
    char buffer[65536];
    const ssize_t got = recv(connection.fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got <= 0) {
      close_now(connection);
      return;
    }
    connection.received.append(buffer, static_cast<size_t>(got));
    const size_t end = connection.received.find("\r\n\r\n");
    if (end == std::string::npos) return;
    RecordedRequest request;
    request.connection = connection.number;
    request.head = connection.received.substr(0, end + 2);
    request.method = request.head.substr(0, request.head.find(' '));
    request.target = request.head.substr(request.method.size() + 1);
    request.target.resize(request.target.find(' '));
    const size_t length = std::strtoul(("0" + length_of(request.head)).c_str(), nullptr, 10);
    if (connection.received.size() < end + 4 + length) return;
    request.body = connection.received.substr(end + 4, length);
    connection.received.erase(0, end + 4 + length);
    requests_.push_back(std::move(request));
    play(connection);
  }

  // libcurl writes this header itself, in its own spelling.
  static std::string length_of(const std::string& head) {
    const size_t at = head.find("\r\nContent-Length: ");
    if (at == std::string::npos) return "";
    return head.substr(at + 18, head.find("\r\n", at + 18) - at - 18);
  }

  void play(Connection& connection) {
    ScriptedAnswer next{s3_error_answer("400 Bad Request", "ScriptIsOver")};
    if (requests_.size() <= script_.size()) next = script_[requests_.size() - 1](requests_);
    send_all(connection.fd, next.text);
    switch (next.then) {
      case ScriptedAnswer::Then::kKeep:
      case ScriptedAnswer::Then::kStall:
        break;
      case ScriptedAnswer::Then::kDrip:
        connection.dripping = true;
        break;
      case ScriptedAnswer::Then::kReset: {
        const struct linger no_linger = {1, 0};
        setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof(no_linger));
        [[fallthrough]];
      }
      case ScriptedAnswer::Then::kClose:
        close_now(connection);
        break;
    }
  }

  static void send_all(int fd, const std::string& text) {
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t sent = send(fd, text.data() + done, text.size() - done, MSG_NOSIGNAL);
      if (sent <= 0) return;
      done += static_cast<size_t>(sent);
    }
  }

  static void close_now(Connection& connection) {
    if (connection.fd >= 0) close(connection.fd);
    connection.fd = -1;
  }

  const std::vector<ScriptStep> script_;
  std::vector<RecordedRequest> requests_;  // Read by others only after stop().
  std::vector<Connection> connections_;
  int listener_ = -1;
  int port_ = 0;
  int accepted_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace walfs::testing
