// The control socket of a mount: one line of JSON in, one line of JSON back.
//
// Request: {"command":"status", ...}. Answer: an object; a failure is {"error":"...","code":N} with
// the exit status the command should end with.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

constexpr const char* kControlDirectory = "/run/walfs";

// /run/walfs/<16 hex of xxh64 of the real mount point>.sock
std::string control_socket_path(const std::string& mountpoint);

// Binds and listens (mode 0600), replacing what a mount that crashed left there.
Result<FileDescriptor> listen_control(const std::string& socket_path);

// Client side. A server that ends before it has answered is replaced, and the next one is asked: a
// request must do no harm when it is done twice. A `timeout_ms` in the request becomes what is left
// of it.
Result<nlohmann::json> control_request(const std::string& mountpoint, nlohmann::json request,
                                       int64_t timeout_ms);
Result<nlohmann::json> control_request_at(const std::string& socket_path, nlohmann::json request,
                                          int64_t timeout_ms);
// The control sockets of all mounts of this machine, live or not.
std::vector<std::string> control_sockets();

nlohmann::json error_to_json(const Error& error);

// Answers requests with one thread per connection (16 at most), so that a long command does not
// hold up a short one. Handlers may be called at the same time from several threads.
class ControlServer {
 public:
  using Handler = std::function<nlohmann::json(const nlohmann::json& request)>;

  ControlServer() = default;
  ~ControlServer() { stop(); }
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Any time, also while serving; a later handler replaces an earlier one.
  void handle(const std::string& command, Handler handler);
  // Starts the thread; borrows the listening socket.
  void start(int listen_fd);
  // Waits for the requests that are being answered.
  void stop();

 private:
  void accept_loop(const std::stop_token& stop);
  void answer(int connection);
  nlohmann::json reply_to(const std::string& line);

  int listen_fd_ = -1;
  FileDescriptor wake_;
  std::mutex mutex_;
  std::map<std::string, Handler> handlers_;
  std::jthread thread_;
};

}  // namespace walfs
