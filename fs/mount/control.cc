#include "fs/mount/control.h"

#include <dirent.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <list>

#include "fs/mount/process.h"

namespace walfs {
namespace {

constexpr size_t kLineSizeMax = 64 * 1024;
constexpr size_t kAnswerSizeMax = 64 * 1024 * 1024;
constexpr int64_t kRequestTimeoutMs = 5000;
constexpr size_t kConnectionsMax = 16;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// Reads up to a line feed, which is not part of the result.
Result<std::string> read_line(int fd, size_t size_max, int64_t timeout_ms) {
  const int64_t end = now_ms() + timeout_ms;
  std::string line;
  char part[4096];
  while (line.size() < size_max) {
    pollfd waiting = {fd, POLLIN, 0};
    int ready = poll(&waiting, 1, static_cast<int>(std::max<int64_t>(0, end - now_ms())));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error{Errc::kRetry, "no answer in time"};
    ssize_t got = recv(fd, part, sizeof part, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error{Errc::kRetry, "the connection ended"};
    line.append(part, static_cast<size_t>(got));
    size_t feed = line.find('\n');
    if (feed != std::string::npos) return line.substr(0, feed);
  }
  return Error{Errc::kDamaged, "the line is too long"};
}

bool write_line(int fd, const nlohmann::json& json) {
  std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  size_t sent = 0;
  while (sent < text.size()) {
    ssize_t put = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    sent += static_cast<size_t>(put);
  }
  return true;
}

Result<nlohmann::json> ask_one_server(const std::string& socket_path, const nlohmann::json& request,
                                      int64_t timeout_ms) {
  FileDescriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return error_from_errno("cannot make a socket", errno);
  sockaddr_un address = address_of(socket_path);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    int error = errno;
    if (error == ENOENT || error == ECONNREFUSED)
      return Error{Errc::kNothingThere, "no walfs serves the control socket " + socket_path};
    return error_from_errno("cannot connect to " + socket_path, error);
  }
  if (!write_line(fd.get(), request))
    return Error{Errc::kRetry, socket_path + ": the connection ended"};
  auto line = read_line(fd.get(), kAnswerSizeMax, timeout_ms);
  if (!line) return Error{line.error().code, socket_path + ": " + line.error().message};
  auto answer = nlohmann::json::parse(*line, nullptr, false);
  if (!answer.is_object()) return Error{Errc::kDamaged, socket_path + ": the answer is not JSON"};
  return answer;
}

}  // namespace

std::string control_socket_path(const std::string& mountpoint) {
  char name[17];
  std::snprintf(name, sizeof name, "%016llx",
                static_cast<unsigned long long>(XXH64(mountpoint.data(), mountpoint.size(), 0)));
  return std::string(kControlDirectory) + "/" + name + ".sock";
}

Result<FileDescriptor> listen_control(const std::string& socket_path) {
  if (mkdir(kControlDirectory, 0755) != 0 && errno != EEXIST)
    return error_from_errno(std::string("cannot make ") + kControlDirectory, errno);
  FileDescriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return error_from_errno("cannot make the control socket", errno);
  ::unlink(socket_path.c_str());
  sockaddr_un address = address_of(socket_path);
  // Bound in a mode that nobody can connect to before chmod.
  mode_t before = ::umask(0177);
  int bound = bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || listen(fd.get(), 16) != 0)
    return error_from_errno("cannot listen on " + socket_path, errno);
  return fd;
}

Result<nlohmann::json> control_request_at(const std::string& socket_path, nlohmann::json request,
                                          int64_t timeout_ms) {
  const int64_t begin = now_ms();
  const int64_t wanted_ms = request.value("timeout_ms", int64_t{0});
  while (true) {
    const int64_t gone_ms = now_ms() - begin;
    if (wanted_ms > 0) request["timeout_ms"] = std::max<int64_t>(0, wanted_ms - gone_ms);
    auto answer = ask_one_server(socket_path, request, timeout_ms - gone_ms);
    const bool again = !answer && answer.error().code == Errc::kRetry;
    if (!again || now_ms() - begin >= timeout_ms) return answer;
    poll(nullptr, 0, 10);
  }
}

Result<nlohmann::json> control_request(const std::string& mountpoint, nlohmann::json request,
                                       int64_t timeout_ms) {
  auto answer = control_request_at(control_socket_path(mountpoint), std::move(request), timeout_ms);
  if (!answer && answer.error().code == Errc::kNothingThere)
    return Error{Errc::kNothingThere, mountpoint + " is not mounted by walfs"};
  return answer;
}

std::vector<std::string> control_sockets() {
  std::vector<std::string> paths;
  DIR* stream = opendir(kControlDirectory);
  if (stream == nullptr) return paths;
  while (const dirent* item = readdir(stream)) {
    std::string name = item->d_name;
    if (name.ends_with(".sock")) paths.push_back(std::string(kControlDirectory) + "/" + name);
  }
  closedir(stream);
  return paths;
}

nlohmann::json error_to_json(const Error& error) {
  return {{"error", error.message}, {"code", exit_code(error)}};
}

void ControlServer::handle(const std::string& command, Handler handler) {
  std::lock_guard lock(mutex_);
  handlers_[command] = std::move(handler);
}

void ControlServer::start(int listen_fd) {
  listen_fd_ = listen_fd;
  wake_.reset(eventfd(0, EFD_CLOEXEC));
  thread_ = std::jthread([this](const std::stop_token& stop) { accept_loop(stop); });
}

void ControlServer::stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) spdlog::error("cannot wake the control thread");
  thread_.join();
}

void ControlServer::accept_loop(const std::stop_token& stop) {
  struct Connection {
    std::jthread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };
  std::list<Connection> connections;  // Joined when they leave the list.
  while (!stop.stop_requested()) {
    pollfd waiting[2] = {{listen_fd_, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) return;
    if ((waiting[0].revents & POLLIN) == 0) continue;
    int accepted = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (accepted < 0) continue;
    // A client that does not read must not keep its thread.
    timeval limit = {kRequestTimeoutMs / 1000, 0};
    setsockopt(accepted, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    std::erase_if(connections, [](const Connection& one) { return one.done->load(); });
    if (connections.size() >= kConnectionsMax) {
      write_line(accepted, error_to_json({Errc::kRetry, "too many requests at once"}));
      close(accepted);
      continue;
    }
    auto done = std::make_shared<std::atomic<bool>>(false);
    connections.push_back({std::jthread([this, accepted, done] {
                             answer(accepted);
                             close(accepted);
                             *done = true;
                           }),
                           done});
  }
}

void ControlServer::answer(int connection) {
  auto line = read_line(connection, kLineSizeMax, kRequestTimeoutMs);
  if (line) write_line(connection, reply_to(*line));
}

nlohmann::json ControlServer::reply_to(const std::string& line) {
  try {
    auto request = nlohmann::json::parse(line);
    std::string command = request.at("command").get<std::string>();
    Handler handler;
    {
      std::lock_guard lock(mutex_);
      auto found = handlers_.find(command);
      if (found == handlers_.end())
        return error_to_json({Errc::kUsage, "unknown command: " + command});
      handler = found->second;
    }
    return handler(request);
  } catch (const std::exception& fault) {
    return error_to_json({Errc::kUsage, std::string("bad request: ") + fault.what()});
  }
}

}  // namespace walfs
