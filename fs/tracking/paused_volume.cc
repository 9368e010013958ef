#include "fs/tracking/paused_volume.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fs/mount/control.h"
#include "fs/mount/process.h"
#include "fs/mount/shared_state.h"
#include "fs/tracking/volume_answers.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/claims.h"
#include "replicator/replica.h"

namespace walfs {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kWatchInterval(50);
constexpr int64_t kOpenAgainMs = 2000;
constexpr int64_t kAskMinMs = 500;
constexpr int64_t kAskMaxMs = 15000;
// How long a spool that is full, or could not be written, is left alone: longer each time in a row.
constexpr int64_t kPauseMinMs = 500;
constexpr int64_t kPauseMaxMs = 60000;
constexpr off_t kRoomWanted = off_t{4} << 20;

}  // namespace

PausedVolume::~PausedVolume() {
  watch_.reset();
  if (gate_) gate_->stop();
}

Status PausedVolume::start(const ServerContext& context) {
  context_.emplace(context);
  pause_.emplace(context.shared.pause);
  const bool commits_wait = context.options.durability == "sync";
  observer_ =
      std::make_unique<TouchedObserver>(context.shared.touched, context.backing_fd, commits_wait);
  if (commits_wait) open_gate(context.options);
  context.control.handle("pause", [this](const json&) {
    pause_->begin(Pause::kAsked);
    return json{{"paused", pause_->status()}};
  });
  context.control.handle("resume", [this](const json&) {
    pause_->end(Pause::kAsked);
    return json{{"paused", pause_->status()}};
  });
  next_write_ms_ = now_ms() + std::min(kPauseMinMs << times_before(), kPauseMaxMs);
  drained_after_ms_ = times_before() == 0 ? 0 : next_write_ms_;
  // What the server before had begun to write.
  const std::string open_segment =
      "/proc/self/fd/" + std::to_string(context.state_fd) + "/spool/open.tmp";
  ::unlink(open_segment.c_str());
  try_to_open();
  watch_ = std::make_unique<Ticker>(kWatchInterval, [this] { watch(); });
  return {};
}

// Nothing that is committed now can be in the store before the next server has compared: the policy
// says what becomes of it.
void PausedVolume::open_gate(const MountOptions& options) {
  CommitGate::Steps steps;
  steps.seal = [] { return std::optional<Position>(); };
  steps.stored = [](Position, milliseconds) { return false; };
  steps.hopeless = [this] { return upload_status().fenced; };
  steps.caught_up = [] { return false; };
  steps.now_ms = now_ms;
  steps.judges_repeated = true;
  const auto policy = parse_sync_policy(options.sync_policy);
  gate_ = std::make_unique<CommitGate>(std::move(steps), policy.value_or(SyncPolicy::kWait),
                                       options.sync_timeout_ms);
}

uint32_t PausedVolume::times_before() const {
  return std::min<uint32_t>(std::max(pause_->in_a_row(), 1U) - 1, 10);
}

PausedVolume::Opened* PausedVolume::opened() const {
  const std::scoped_lock lock(mutex_);
  return opened_.get();
}

UploadStatus PausedVolume::upload_status() const {
  const Opened* const all = opened();
  return all != nullptr ? all->uploader->status() : UploadStatus{};
}

// ---- The watch's thread.

void PausedVolume::watch() {
  if (opened() == nullptr && now_ms() >= next_open_ms_) try_to_open();
  look_whether_writable();
  look_whether_drained();
  if (!pause_->paused() && context_->can_hand_over()) context_->hand_over();
}

void PausedVolume::try_to_open() {
  next_open_ms_ = now_ms() + kOpenAgainMs;
  auto state = open_volume_state(*context_);
  const std::scoped_lock lock(mutex_);
  if (!state.ok()) {
    error_ = state.error();
    return;
  }
  error_.reset();
  auto uploader = state->start_uploads();
  opened_ = std::make_unique<Opened>(Opened{std::move(*state), std::move(uploader)});
}

// The store must have been seen to work: else the next server would only fill the spool again. The
// spool of a first upload is of no use to the one that begins anew; it goes on when the store
// answers.
void PausedVolume::look_whether_drained() {
  Opened* const all = opened();
  if (!pause_->has(Pause::kSpoolFull) || all == nullptr || now_ms() < drained_after_ms_) return;
  const UploadStatus upload = all->uploader->status();
  const auto limit = static_cast<uint64_t>(context_->options.spool_limit);
  // Half of it was too much if it is full again.
  if (upload.fenced || upload.room_waiting > limit / 2 >> times_before()) return;
  const bool works = upload.puts > 0 && upload.failing_since_ns == 0;
  if (works) return pause_->end(Pause::kSpoolFull);
  if (upload.segments_waiting > 0 || now_ms() < next_ask_ms_) return;
  const Status answered = ask_store();
  ask_pause_ms_ = std::clamp(ask_pause_ms_ * 2, kAskMinMs, kAskMaxMs);
  next_ask_ms_ = now_ms() + ask_pause_ms_;
  if (answered.ok()) return pause_->end(Pause::kSpoolFull);
  const std::scoped_lock lock(mutex_);
  error_ = answered.error();
}

// That it can be written, too: the claim is repeated.
Status PausedVolume::ask_store() {
  const VolumeState& state = opened()->state;
  const Result<Fencing> claimed = claim_late(*state.store, state.writer.epoch);
  return claimed.ok() ? Status() : Status(claimed.error());
}

void PausedVolume::look_whether_writable() {
  if (!pause_->has(Pause::kSpoolFault) || opened() == nullptr || now_ms() < next_write_ms_) return;
  next_write_ms_ = now_ms() + kOpenAgainMs;
  if (write_to_spool().ok()) pause_->end(Pause::kSpoolFault);
}

Status PausedVolume::write_to_spool() const {
  const std::string spool = opened()->state.spool();
  const FileDescriptor file(::open(spool.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid()) return error_from_errno("cannot write to " + spool, errno);
  const int error = ::posix_fallocate(file.get(), 0, kRoomWanted);
  return error == 0 ? Status() : Status(error_from_errno("cannot write to " + spool, error));
}

// ---- Called from elsewhere.

std::string PausedVolume::what_is_missing() const {
  return "replication is paused since " + pause_->since() + ": " + pause_->why() +
         "; what was written since is not in the store";
}

json PausedVolume::status() {
  json answer;
  const UploadStatus upload = upload_status();
  std::optional<Error> error = upload.error;
  if (const Opened* const all = opened()) {
    const WriterStart& writer = all->state.writer;
    describe_uploads(answer, *all->state.store, writer, upload);
    answer["position"] = all->state.catalog->header().complete.to_string();
    answer["first_upload"] = {{"done", !writer.fresh}, {"bytes_total", 0}, {"bytes_done", 0}};
  } else {
    answer["replica"] = context_->options.replica_url;
  }
  describe_gate(answer, gate_.get());
  answer["paused"] = pause_->status();
  answer["spool_bytes"] = upload.room_waiting;
  answer["spool_limit"] = context_->options.spool_limit;
  answer["databases"] = json::array();
  const std::string fault = pause_->fault();
  const std::scoped_lock lock(mutex_);
  if (!error) error = error_;
  answer["last_error"] = !fault.empty() ? json(fault)
                         : error        ? json(error->message)
                                        : json(nullptr);
  return answer;
}

// Waits until the next server can answer: this one then ends, and the client asks again.
Result<json> PausedVolume::sync(int64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
  while (!pause_->has(Pause::kAsked) && !stopping_ && std::chrono::steady_clock::now() < deadline) {
    changed_.wait_until(lock,
                        std::min(deadline, std::chrono::steady_clock::now() + kWatchInterval));
  }
  std::string message = what_is_missing();
  if (pause_->has(Pause::kAsked)) message += "; walfs resume lets it go on";
  lock.unlock();
  const UploadStatus upload = upload_status();
  if (upload.error) message += ": " + upload.error->message;
  return Error{upload.fenced ? Errc::kConflict : Errc::kRetry, message};
}

// The next mount takes nothing for unchanged: the catalog was not said to be clean.
Status PausedVolume::finish(int64_t timeout_ms, bool) {
  watch_->stop();
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (gate_) gate_->stop();
  if (Opened* const all = opened()) {
    const WriterStart& writer = all->state.writer;
    if (!writer.spooled.empty())
      all->uploader->wait_for(writer.spooled.back().last, milliseconds(timeout_ms));
    all->uploader->stop();
  }
  return Error{Errc::kRetry, what_is_missing() + "; the next mount finds it"};
}

}  // namespace walfs
