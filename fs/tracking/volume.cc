#include "fs/tracking/volume.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "fs/mount/control.h"
#include "fs/mount/process.h"
#include "fs/mount/shared_state.h"
#include "fs/tracking/paused_volume.h"
#include "fs/tracking/volume_state.h"
#include "replicator/outage.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr int64_t kCutterPollMs = 20;
constexpr int kLastRounds = 20;
constexpr milliseconds kSpoolWatchInterval(20);

// Of the disk with the spool, and not of what we made of it.
bool is_disk_fault(const Error& error) {
  return error.code == Errc::kNoSpace || error.code == Errc::kIo;
}

}  // namespace

Volume::~Volume() {
  watch_.reset();
  stopping_ = true;
  if (gate_) gate_->stop();
  if (chunks_) chunks_->stop();
  if (cut_thread_.joinable()) cut_thread_.join();
  if (scan_thread_.joinable()) scan_thread_.join();
}

// A disk that has become full must not keep the next server from serving.
Status Volume::start(const ServerContext& context) {
  pause_.emplace(context.shared.pause);
  can_hand_over_ = context.can_hand_over;
  hand_over_ = context.hand_over;
  Status begun = begin(context);
  if (begun.ok() || !context.resumed || !is_disk_fault(begun.error()) || !can_hand_over_())
    return begun;
  pause_->begin(Pause::kSpoolFault, begun.error().message);
  hand_over_();
  return begun;
}

Status Volume::begin(const ServerContext& context) {
  backing_fd_ = context.backing_fd;
  flusher_fd_ = context.flusher_fd;
  sync_interval_ns_ = context.options.sync_interval_ms * kNsPerMs;
  spool_limit_ = static_cast<uint64_t>(context.options.spool_limit);
  generation_ = context.shared.servers;
  WALFS_TRY(open_state(context));
  tracker_ = std::make_unique<Tracker>(*catalog_, state_path_ + "/spool", backing_fd_,
                                       context.shared.order, context.shared.touched);
  tracker_->set_next_id(catalog_->new_id());
  tracker_->on_shm(
      [this](const FileState& database, bool present) { watch_heads(database, present); });
  log_reader_ = std::make_unique<LogReader>(*tracker_);
  tracker_->on_log_sync(
      [this](const std::shared_ptr<FileState>& database) { log_reader_->want(database); });
  cutter_ = std::make_unique<Cutter>(*tracker_, *log_, part_bytes());
  if (!writer_->fresh) cutter_->begin_comparison();
  if (trust_ != Trust::kUntouched) tracker_->touch_everything();
  WALFS_ASSIGN(scan_, scan_tree(backing_fd_, *tracker_, *catalog_, writer_->fresh, trust_));
  forget_earlier_instants();
  if (context.options.durability == "sync") open_gate(context.options);
  context.control.handle("pause", [this](const json&) { return pause_as_asked(); });
  context.control.handle("resume", [](const json&) { return json{{"paused", nullptr}}; });
  start_threads();
  return {};
}

Status Volume::open_state(const ServerContext& context) {
  WALFS_ASSIGN(VolumeState state, open_volume_state(context));
  state_path_ = state.path;
  trust_ = state.trust;
  uploader_ = state.start_uploads();
  store_ = std::move(state.store);
  catalog_ = std::move(state.catalog);
  writer_ = std::move(state.writer);
  log_ = std::make_unique<Log>(*catalog_, state_path_ + "/spool", writer_->start);
  log_->on_sealed([this](PositionRange segment) { uploader_->add(segment); });
  UpkeepPolicy policy;
  // It needs as much room on the disk.
  policy.compaction.size_max = std::min(policy.compaction.size_max, part_bytes());
  policy.snapshots.interval_ns = context.options.snapshot_interval_ms * kNsPerMs;
  policy.retention.keep_ns = context.options.retention_ms * kNsPerMs;
  if (policy.retention.keep_ns == 0) policy.compaction.thin_after_ns = 0;
  upkeep_ = std::make_unique<Upkeep>(*store_, state_path_ + "/spool", std::move(policy));
  uploader_->on_uploaded(
      [this](PositionRange segment, uint64_t size) { upkeep_->add(segment, size); });
  snapshot_done_ = !writer_->fresh;
  return {};
}

void Volume::start_threads() {
  if (writer_->fresh) {
    chunks_ = std::make_unique<ChunkUploader>(*store_, writer_->store_has_chunks);
    first_upload_ = std::make_unique<FirstUpload>(*tracker_, *catalog_, *chunks_);
  } else {
    comparison_ =
        std::make_unique<ContentComparison>(*tracker_, part_bytes(), [this] { ship_compared(); });
  }
  spdlog::info("{}: {} files, {} to read ({} MiB), replica {}",
               writer_->fresh ? "first upload" : "continuing", scan_.files, scan_.unread.size(),
               scan_.unread_bytes >> 20, store_->describe());
  cut_thread_ = std::thread([this] { run_cutter(); });
  scan_thread_ = std::thread([this] { run_scan(); });
  watch_ = std::make_unique<Ticker>(kSpoolWatchInterval, [this] { watch_spool(); });
}

// Commits wait for the store, and the kernel passes each write on at once.
void Volume::open_gate(const MountOptions& options) {
  tracker_->set_write_through();
  cutter_->do_without_heads();
  CommitGate::Steps steps;
  steps.seal = [this] { return seal_committed(); };
  steps.stored = [this](Position position, milliseconds wait) {
    const bool stored = uploader_->wait_for(position, wait) && first_upload_done();
    if (stored) tracker_->set_stored_order(gate_order_);
    return stored;
  };
  steps.hopeless = [this] { return uploader_->status().fenced; };
  steps.caught_up = [this] { return uploader_->status().segments_waiting == 0; };
  steps.now_ms = now_ms;
  const auto policy = parse_sync_policy(options.sync_policy);
  gate_ = std::make_unique<CommitGate>(std::move(steps), policy.value_or(SyncPolicy::kWait),
                                       options.sync_timeout_ms);
}

std::optional<Position> Volume::seal_committed() {
  const std::scoped_lock lock(cut_mutex_);
  Cut now;
  now.order = tracker_->current_order();
  const Result<bool> made = cutter_->cut(now);
  note_log_failure(made.ok() ? Status() : Status(made.error()));
  if (!made.ok() || !*made || !cutter_->databases_settled()) return std::nullopt;
  take_snapshot_position(now.order);
  seal_if_due(true);
  if (log_->sealed() != log_->last()) return std::nullopt;
  gate_order_ = now.order;
  return log_->sealed();
}

// ---- The cutter's thread.

void Volume::run_cutter() {
  while (!stopping_) {
    send_requests();
    pollfd waiting = {flusher_fd_, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(kCutterPollMs));
    if (ready > 0 && !receive_instant()) {
      // The flusher is being started again, or the end is near.
      std::this_thread::sleep_for(milliseconds(kCutterPollMs));
    }
    const std::scoped_lock lock(cut_mutex_);
    seal_if_due(false);
  }
}

// Heads are told once: what a server that died was told, or is still on its way to it, must be told
// to this one, by the ids that it knows.
void Volume::forget_earlier_instants() {
  while (receive_message(flusher_fd_, 0)) {
  }
  introduce();
}

// Tells a flusher that knows nothing of this server what it should know.
void Volume::introduce() {
  std::deque<json> requests = {{{"server", generation_}}};
  for (const auto& file : tracker_->all_states()) {
    const std::scoped_lock lock(file->mutex);
    if (file->content == nullptr || !file->content->has_shm) continue;
    requests.push_back({{"watch", file->id}, {"path", tracker_->path_of(*file)}});
  }
  const std::scoped_lock lock(mutex_);
  std::erase_if(requests_, [](const json& request) { return request.contains("watch"); });
  requests_.insert(requests_.begin(), requests.begin(), requests.end());
}

void Volume::send_requests() {
  std::deque<json> requests;
  {
    const std::scoped_lock lock(mutex_);
    requests = std::exchange(requests_, {});
  }
  for (const json& request : requests) send_message(flusher_fd_, request);
}

bool Volume::receive_instant() {
  const auto message = receive_message(flusher_fd_, 0);
  if (!message) return false;
  if (message->contains("hello")) {
    introduce();
    return true;
  }
  if (message->value("server", uint64_t{0}) != generation_) return true;
  const std::scoped_lock lock(cut_mutex_);
  if (stopping_) return true;
  // Those of commits that wait are not to be seen yet.
  std::vector<Head> heads;
  for (const json& head : gate_ ? json::array() : message->value("heads", json::array())) {
    heads.push_back({head.at(0).get<FileId>(),
                     {head.at(1).get<uint32_t>(), head.at(2).get<uint32_t>()},
                     head.at(3).get<uint32_t>()});
  }
  add_heads(partial_.heads, heads);
  if (message->value("more", false)) return true;
  Cut cut = std::exchange(partial_, {});
  cut.order = message->value("order", uint64_t{0});
  const auto tokens = message->value("tokens", std::vector<uint64_t>());
  cut.force = !tokens.empty();
  make_cut(cut, tokens);
  return true;
}

void Volume::make_cut(const Cut& cut, const std::vector<uint64_t>& tokens) {
  const Result<bool> made = cutter_->cut(cut);
  note_log_failure(made.ok() ? Status() : Status(made.error()));
  if (made.ok() && *made) {
    note_unreadable(kCut, cutter_->unreadable());
    take_snapshot_position(cut.order);
    caught_up_ = caught_up_ || (compared() && log_->sealed() == log_->last());
  }
  if (tokens.empty()) return;
  if (made.ok() && *made && !cutter_->unsettled()) {
    seal_if_due(true);
    if (log_->sealed() == log_->last()) return complete_tokens(tokens);
  }
  const std::string path = cutter_->unsettled_path();
  const std::scoped_lock lock(mutex_);
  unsettled_path_ = path;
  for (const uint64_t token : tokens) tokens_[token] = Position{};  // Try again.
  changed_.notify_all();
}

void Volume::complete_tokens(const std::vector<uint64_t>& tokens) {
  const std::scoped_lock lock(mutex_);
  for (const uint64_t token : tokens) tokens_[token] = log_->sealed();
  changed_.notify_all();
}

void Volume::seal_if_due(bool now) {
  if (log_->sealed() == log_->last()) return;
  // 0: it is sealed, and only the catalog has to follow.
  const int64_t since = log_->open_since_ns();
  if (!now && since != 0 && steady_ns() - since < sync_interval_ns_) return;
  static_cast<void>(catalog_->note_uploaded(uploader_->status().uploaded).ok());
  const Status sealed = log_->seal();
  note_log_failure(sealed);
  if (!sealed.ok() || cutter_->pending()) return;
  tracker_->sealed(compared());
  caught_up_ = caught_up_ || compared();
}

bool Volume::compared() const {
  const std::scoped_lock lock(mutex_);
  return scan_done_ && snapshot_done_;
}

// When everything was read, and nothing of it in the middle of a transaction, the state at this
// point is the first snapshot's.
void Volume::take_snapshot_position(uint64_t order) {
  {
    const std::scoped_lock lock(mutex_);
    if (!snapshot_wanted_ || snapshot_ || order < snapshot_order_) return;
  }
  if (!cutter_->scan_settled()) return;
  const Result<Position> last = cutter_->append_empty();
  if (!last.ok()) return note_log_failure(last.error());
  auto snapshot = catalog_->snapshot({writer_->start, *last}, now_ns());
  if (!snapshot.ok()) return note_log_failure(snapshot.error());
  seal_if_due(true);
  const std::scoped_lock lock(mutex_);
  first_snapshot_ = snapshot->range.last;
  snapshot_ = std::move(*snapshot);
  snapshot_wanted_ = false;
  changed_.notify_all();
}

bool Volume::log_failed() const {
  const std::scoped_lock lock(mutex_);
  return log_error_.has_value();
}

void Volume::note_log_failure(const Status& status) {
  const std::scoped_lock lock(mutex_);
  if (status.ok()) {
    if (log_error_) spdlog::info("the spool can be written again");
    log_error_.reset();
    return;
  }
  if (!log_error_ || log_error_->message != status.error().message) {
    spdlog::error("replication waits: {}", status.error().message);
  }
  log_error_ = status.error();
}

void Volume::note_unreadable(Reader reader, const std::optional<Error>& error) {
  const std::scoped_lock lock(mutex_);
  std::optional<Error>& noted = read_errors_[reader];
  if (error && (!noted || noted->message != error->message))
    spdlog::error("{}; the replica keeps what it has of it", error->message);
  const bool ended = !error && noted;
  noted = error;
  if (ended && !read_error()) spdlog::info("everything can be read again");
}

// The lock is held.
std::optional<Error> Volume::read_error() const {
  return read_errors_[kCut] ? read_errors_[kCut] : read_errors_[kScan];
}

// ---- The watch's thread.

uint64_t Volume::spool_bytes() const {
  return uploader_->status().room_waiting + log_->open_bytes() + CommitBuffer::bytes_in_use();
}

std::optional<Pause::Reason> Volume::reason_to_pause() {
  if (spool_bytes() >= spool_limit_) return Pause::kSpoolFull;
  const std::scoped_lock lock(mutex_);
  if (log_error_ && is_disk_fault(*log_error_)) return Pause::kSpoolFault;
  if (caught_up_) pause_->caught_up();
  return std::nullopt;
}

// What is captured and not sealed is lost with this server; that it was touched is not.
void Volume::watch_spool() {
  if (!can_hand_over_()) return;
  if (!pause_->paused()) {
    const auto reason = reason_to_pause();
    if (!reason) return;
    std::string fault;
    if (*reason == Pause::kSpoolFault) {
      const std::scoped_lock lock(mutex_);
      if (!log_error_) return;
      fault = log_error_->message;
    }
    pause_->begin(*reason, fault);
  }
  hand_over_();
}

json Volume::pause_as_asked() {
  if (!can_hand_over_())
    return error_to_json(
        {Errc::kUnsupported, "replication cannot be paused; walfs status says why"});
  pause_->begin(Pause::kAsked);
  return {{"paused", pause_->status()}};
}

// ---- Called from elsewhere.

void Volume::watch_heads(const FileState& database, bool present) {
  if (gate_) return;
  json request = present ? json{{"watch", database.id}, {"path", tracker_->path_of(database)}}
                         : json{{"unwatch", database.id}};
  const std::scoped_lock lock(mutex_);
  requests_.push_back(std::move(request));
}

bool Volume::first_upload_done() const {
  const std::scoped_lock lock(mutex_);
  return snapshot_done_;
}

// After the last request everything written has arrived and every handle is closed: one more cut
// takes it all. What comes after that cut is found by the next mount, which therefore must not take
// anything for unchanged.
Status Volume::finish(int64_t timeout_ms, bool all_served) {
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
  watch_->stop();
  {
    // A comparison that is under way ends first; what it has not looked at must not be taken for
    // unchanged.
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [&] { return scan_done_ || !comparison_; });
  }
  bool all = false;
  for (int round = 0; round < kLastRounds && !all; ++round) {
    const std::scoped_lock lock(cut_mutex_);
    Cut last;
    last.order = UINT64_MAX;
    last.force = true;
    last.last = true;
    const Result<bool> made = cutter_->cut(last);
    note_log_failure(made.ok() ? Status() : Status(made.error()));
    if (made.ok()) {
      take_snapshot_position(last.order);
      seal_if_due(true);
      all = *made && !cutter_->unsettled() && log_->sealed() == log_->last();
    }
    // Perhaps for room, which the uploader makes.
    if (log_failed()) std::this_thread::sleep_for(milliseconds(kCutterPollMs));
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [&] { return snapshot_done_; });
  }
  const auto left = std::max(milliseconds(100), std::chrono::duration_cast<milliseconds>(
                                                    deadline - std::chrono::steady_clock::now()));
  const bool sealed = log_->sealed() == log_->last() && !cutter_->pending();
  const bool shipped = sealed && uploader_->wait_for(log_->sealed(), left) && first_upload_done();
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (gate_) gate_->stop();
  if (chunks_) chunks_->stop();
  uploader_->stop();
  upkeep_->stop();
  if (cut_thread_.joinable()) cut_thread_.join();
  if (scan_thread_.joinable()) scan_thread_.join();
  static_cast<void>(catalog_->note_uploaded(uploader_->status().uploaded).ok());
  if (all && all_served && save_signatures(backing_fd_, *tracker_, *catalog_).ok())
    WALFS_TRY(catalog_->set_clean());
  if (shipped) return {};
  if (log_error_) return Error{Errc::kRetry, log_error_->message + "; the next mount finds it"};
  const UploadStatus status = uploader_->status();
  std::string reason = status.error ? ": " + status.error->message : "";
  return Error{
      Errc::kRetry,
      (first_upload_done() ? std::to_string(status.segments_waiting) + " segments wait for "
                           : std::string("the first upload is not complete at ")) +
          store_->describe() + reason + "; the next mount goes on with them"};
}

std::unique_ptr<ServerHooks> make_volume(SharedState& shared) {
  if (Pause(shared.pause).paused()) return std::make_unique<PausedVolume>();
  return std::make_unique<Volume>();
}

}  // namespace walfs
