#include "fs/tracking/commit_gate.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace walfs {
namespace {

using std::chrono::milliseconds;

// How long a commit that has just come may go unnoticed while an upload is under way.
constexpr milliseconds kStoredWait(5);

thread_local bool committed = false;

}  // namespace

void note_committed_by_this_thread() {
  committed = true;
}

std::optional<SyncPolicy> parse_sync_policy(const std::string& name) {
  if (name == "wait") return SyncPolicy::kWait;
  if (name == "fail") return SyncPolicy::kFail;
  if (name == "degrade") return SyncPolicy::kDegrade;
  return std::nullopt;
}

CommitGate::CommitGate(Steps steps, SyncPolicy policy, int64_t timeout_ms)
    : steps_(std::move(steps)),
      policy_(policy),
      timeout_ms_(timeout_ms),
      thread_([this] { run(); }) {}

CommitGate::~CommitGate() {
  stop();
}

bool CommitGate::take_committed() {
  if (!std::exchange(committed, false)) return false;
  std::unique_lock lock(mutex_);
  if (!status_.degraded) return true;
  lock.unlock();
  if (!steps_.caught_up()) return false;
  lock.lock();
  if (std::exchange(status_.degraded, false))
    spdlog::warn("the store has caught up: commits wait for it again");
  return true;
}

void CommitGate::wait(std::function<void(int)> answer) {
  {
    const std::scoped_lock lock(mutex_);
    if (!stopping_) {
      waiting_.push_back({std::move(answer), steps_.now_ms(), std::nullopt});
      changed_.notify_all();
      return;
    }
  }
  answer(EIO);
}

CommitGate::Status CommitGate::status() const {
  const std::scoped_lock lock(mutex_);
  Status status = status_;
  status.waiting = waiting_.size();
  return status;
}

void CommitGate::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  if (const auto position = sealed_position();
      position && steps_.stored(*position, milliseconds(0)))
    answer_up_to(*position);
  std::unique_lock lock(mutex_);
  const std::vector<Waiter> left = std::exchange(waiting_, {});
  lock.unlock();
  answer_all(left, EIO);
}

void CommitGate::run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
    }
    std::optional<Position> position = sealed_position();
    if (!position) {
      seal_for_those_who_wait();
      position = sealed_position();
      if (!position) std::this_thread::sleep_for(kStoredWait);
    }
    if (position && steps_.stored(*position, kStoredWait)) answer_up_to(*position);
    answer_late();
  }
}

// Of those whose upload is under way; nothing if none is.
std::optional<Position> CommitGate::sealed_position() const {
  const std::scoped_lock lock(mutex_);
  for (const Waiter& waiter : waiting_)
    if (waiter.position) return waiter.position;
  return std::nullopt;
}

void CommitGate::seal_for_those_who_wait() {
  size_t count = 0;
  {
    const std::scoped_lock lock(mutex_);
    count = waiting_.size();
  }
  const auto position = steps_.seal();
  if (!position) return;
  const std::scoped_lock lock(mutex_);
  ++status_.uploads;
  // Only this thread takes any away.
  for (size_t i = 0; i < count; ++i) waiting_[i].position = position;
}

void CommitGate::answer_up_to(Position position) {
  std::vector<Waiter> done;
  {
    const std::scoped_lock lock(mutex_);
    const auto first = std::stable_partition(
        waiting_.begin(), waiting_.end(),
        [&](const Waiter& waiter) { return !waiter.position || *waiter.position > position; });
    done.assign(std::make_move_iterator(first), std::make_move_iterator(waiting_.end()));
    waiting_.erase(first, waiting_.end());
    status_.held += done.size();
  }
  answer_all(done, 0);
}

void CommitGate::answer_late() {
  const bool hopeless = steps_.hopeless();
  if (!hopeless && policy_ == SyncPolicy::kWait) return;
  std::vector<Waiter> late;
  bool degraded = false;
  {
    const std::scoped_lock lock(mutex_);
    const int64_t now = steps_.now_ms();
    const auto first =
        std::stable_partition(waiting_.begin(), waiting_.end(), [&](const Waiter& waiter) {
          return !hopeless && !status_.degraded && now - waiter.since_ms < timeout_ms_;
        });
    late.assign(std::make_move_iterator(first), std::make_move_iterator(waiting_.end()));
    waiting_.erase(first, waiting_.end());
    degraded = !hopeless && policy_ == SyncPolicy::kDegrade;
    if (!late.empty() && degraded && !std::exchange(status_.degraded, true)) {
      spdlog::error(
          "the store does not have a commit after {} ms: commits do NOT wait for it until it has "
          "caught up",
          timeout_ms_);
    }
  }
  answer_all(late, degraded ? 0 : EIO);
}

void CommitGate::answer_all(const std::vector<Waiter>& waiters, int error) {
  for (const Waiter& waiter : waiters) waiter.answer(error);
}

}  // namespace walfs
