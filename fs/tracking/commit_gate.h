// Commits that return only when they are in the store: who waits, and for what.
//
// Everybody who has come while an upload was under way waits for the next one, which has the
// commits of all of them (group commit). One thread of its own; all functions may be called from
// any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fs/mount/reply_gate.h"
#include "replicator/position.h"

namespace walfs {

// What happens when the store does not have a commit within the timeout.
enum class SyncPolicy {
  kWait,     // It waits on, for as long as it takes.
  kFail,     // It fails with EIO; whether it is durable is not known then.
  kDegrade,  // It returns, and so do all others at once, until the store has caught up.
};
std::optional<SyncPolicy> parse_sync_policy(const std::string& name);

// Set while a request is served that has committed something.
void note_committed_by_this_thread();

class CommitGate final : public ReplyGate {
 public:
  struct Steps {
    // Seals everything that was committed before the call; its position. Nothing: not yet, try
    // again.
    std::function<std::optional<Position>()> seal;
    // Whether the store has the position, and all that is needed to restore it; waits that long.
    std::function<bool(Position position, std::chrono::milliseconds wait)> stored;
    // Whether the store will never have it: another writer has taken over.
    std::function<bool()> hopeless;
    // Whether nothing waits for the store.
    std::function<bool()> caught_up;
    std::function<int64_t()> now_ms;  // Monotonic.
    bool judges_repeated = false;     // See ReplyGate.
  };
  struct Status {
    uint64_t waiting = 0;
    bool degraded = false;
    uint64_t held = 0;     // Answers so far that were held back until the store had it,
    uint64_t uploads = 0;  // and in how many groups.
  };

  CommitGate(Steps steps, SyncPolicy policy, int64_t timeout_ms);
  ~CommitGate() override;

  bool take_committed() override;
  bool judges_repeated() const override { return steps_.judges_repeated; }
  void wait(std::function<void(int error)> answer) override;
  Status status() const;
  // Answers all that still wait, with EIO unless the store has what they wait for.
  void stop();

 private:
  struct Waiter {
    std::function<void(int)> answer;
    int64_t since_ms = 0;
    std::optional<Position> position;
  };
  void run();
  void seal_for_those_who_wait();
  void answer_up_to(Position position);
  void answer_late();
  static void answer_all(const std::vector<Waiter>& waiters, int error);
  std::optional<Position> sealed_position() const;

  const Steps steps_;
  const SyncPolicy policy_;
  const int64_t timeout_ms_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Waiter> waiting_;
  Status status_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace walfs
