// A proxy on loopback that stands between a program and its HTTP service and does to requests what
// networks, load balancers and services do on a bad day. One request for each connection; which
// requests a rule with a percentage meets follows from the seed and their order.
#pragma once

#include <atomic>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace walfs::test {

enum class Fault {
  kStatus,          // Answered with `status` (and Retry-After); not passed on.
  kResetInRequest,  // The connection is reset after `bytes` of the request's body.
  kResetInAnswer,   // Passed on; the connection is reset after `bytes` of the answer.
  kNoAnswer,        // Taken and never answered: a half-open connection.
  kDrip,            // Passed on; the answer, or its first `bytes`, comes byte by byte, slowly.
  kTruncatedBody,   // Passed on; the answer ends in the middle, in order.
  kErrorInSuccess,  // Answered with 200 and an S3 error document; not passed on.
  kDelay,           // Passed on after `delay_ms`.
  kLostAnswer,      // Passed on; the connection ends without an answer.
  kTwice,           // Passed on twice; the answer is that to the second one.
  kIgnoredDelete,   // A DELETE is answered with 204 and not passed on.
  kUnconditional,   // Passed on without the condition of a PUT, as if the service ignored it.
};

struct FaultRule {
  Fault fault = Fault::kStatus;
  std::string method = {};  // "" = any.
  std::string path = {};    // A part of what is asked for; "" = any.
  std::string header = {};  // In lower case: only requests that have it; "" = any.
  unsigned percent = 100;   // Of the requests that match.
  int status = 503;
  int retry_after_s = 0;
  size_t bytes = 0;
  int delay_ms = 0;
};

class FaultProxy {
 public:
  // `upstream` is http://127.0.0.1:port.
  explicit FaultProxy(const std::string& upstream, unsigned seed = 1);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // The first rule that matches a request applies.
  void inject(FaultRule rule);
  // No rule any more; connections that are kept waiting are reset.
  void heal();
  // Injected since the last heal().
  size_t faults() const { return faults_; }
  size_t requests() const { return requests_; }

 private:
  struct Request {
    std::string method;
    std::string text;  // Head and body.
  };

  void accept_all();
  void serve(int client);
  bool read_head(int client, std::string& text, size_t& head_size);
  FaultRule choose(const std::string& head, bool& applies);
  void apply(const FaultRule& rule, int client, const Request& request);
  std::string pass_on(const Request& request);
  void hold(int client, const std::string& answer, const FaultRule& rule);
  bool is_over(unsigned generation) const { return stopping_ || generation_ != generation; }

  int upstream_port_ = 0;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> generation_{0};  // Counts the calls of heal().
  std::atomic<size_t> requests_{0};
  std::atomic<size_t> faults_{0};
  std::mutex mutex_;
  std::vector<FaultRule> rules_;
  std::minstd_rand random_;
  std::vector<std::thread> connections_;  // Of the accepting thread, until that has ended.
  std::thread acceptor_;
};

}  // namespace walfs::test
