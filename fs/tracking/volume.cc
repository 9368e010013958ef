#include "fs/tracking/volume.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "fs/mount/channels.h"
#include "fs/mount/process.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kCutterPollMs = 20;
constexpr int kLastRounds = 20;
constexpr size_t kPathsPerMessage = 100;

std::string holder_name(const std::string& directory) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return std::string(host.data()) + ":" + directory;
}

Result<std::atomic<uint64_t>*> map_shared_order(int fd) {
  void* memory = ::mmap(nullptr, kSharedStateSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return error_from_errno("cannot map the shared state", errno);
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  return static_cast<std::atomic<uint64_t>*>(memory);
}

}  // namespace

Volume::~Volume() {
  stopping_ = true;
  if (chunks_) chunks_->stop();
  if (cut_thread_.joinable()) cut_thread_.join();
  if (scan_thread_.joinable()) scan_thread_.join();
}

Status Volume::start(const ServerContext& context) {
  backing_fd_ = context.backing_fd;
  flusher_fd_ = context.flusher_fd;
  sync_interval_ns_ = context.options.sync_interval_ms * kMs;
  WALFS_TRY(open_state(context));
  WALFS_ASSIGN(std::atomic<uint64_t>* const order, map_shared_order(context.shared_fd));
  tracker_ = std::make_unique<Tracker>(*catalog_, state_path_ + "/spool", backing_fd_, *order);
  tracker_->set_next_id(catalog_->new_id());
  tracker_->on_shm(
      [this](const FileState& database, bool present) { watch_heads(database, present); });
  log_reader_ = std::make_unique<LogReader>(*tracker_);
  tracker_->on_log_sync(
      [this](const std::shared_ptr<FileState>& database) { log_reader_->want(database); });
  cutter_ = std::make_unique<Cutter>(*tracker_, *catalog_, *log_);
  WALFS_ASSIGN(scan_, scan_tree(backing_fd_, *tracker_, *catalog_, writer_->fresh, clean_));
  start_threads();
  return {};
}

Status Volume::open_state(const ServerContext& context) {
  const MountOptions& options = context.options;
  // The state directory lies beneath the mount, perhaps; the descriptor leads around it.
  state_path_ = "/proc/self/fd/" + std::to_string(context.state_fd);
  const std::string spool = state_path_ + "/spool";
  if (::mkdir(spool.c_str(), 0700) != 0 && errno != EEXIST) {
    return error_from_errno("cannot create the spool in " + options.source + "/.walfs", errno);
  }
  StoreOptions store_options;
  store_options.credentials_file = options.credentials_file;
  WALFS_ASSIGN(store_, open_store(options.replica_url, store_options, /*create=*/true));
  WALFS_ASSIGN(catalog_, Catalog::open(state_path_ + "/catalog.db"));
  clean_ = catalog_->header().clean;
  const json extra = json::parse(options.extra, nullptr, false);
  const bool take_over = extra.is_object() && extra.value("take_over", false);
  WALFS_ASSIGN(writer_, begin_writing(*store_, *catalog_, spool, options.replica_url,
                                      holder_name(options.source), take_over));
  log_ = std::make_unique<Log>(*catalog_, spool, writer_->start);
  uploader_ = std::make_unique<Uploader>(
      *store_, spool, writer_->epoch, writer_->claimed, writer_->uploaded,
      [this] { static_cast<void>(catalog_->set_claimed().ok()); });
  for (const PositionRange& segment : writer_->spooled) uploader_->add(segment);
  log_->on_sealed([this](PositionRange segment) { uploader_->add(segment); });
  snapshot_done_ = !writer_->fresh;
  return {};
}

void Volume::start_threads() {
  if (writer_->fresh) {
    chunks_ = std::make_unique<ChunkUploader>(*store_, writer_->store_has_chunks);
    first_upload_ = std::make_unique<FirstUpload>(*tracker_, *catalog_, *chunks_);
  } else {
    comparison_ = std::make_unique<ContentComparison>(*tracker_);
  }
  spdlog::info("{}: {} files, {} to read ({} MiB), replica {}",
               writer_->fresh ? "first upload" : "continuing", scan_.files, scan_.unread.size(),
               scan_.unread_bytes >> 20, store_->describe());
  cut_thread_ = std::thread([this] { run_cutter(); });
  scan_thread_ = std::thread([this] { run_scan(); });
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
  const std::scoped_lock lock(cut_mutex_);
  if (stopping_) return true;
  for (const json& head : message->value("heads", json::array())) {
    partial_.heads.push_back({head.at(0).get<FileId>(),
                              {head.at(1).get<uint32_t>(), head.at(2).get<uint32_t>()},
                              head.at(3).get<uint32_t>()});
  }
  if (message->value("more", false)) return true;
  Cut cut = std::exchange(partial_, {});
  cut.order = message->value("order", uint64_t{0});
  const auto tokens = message->value("tokens", std::vector<uint64_t>());
  cut.force = !tokens.empty();
  make_cut(std::move(cut), tokens);
  return true;
}

void Volume::make_cut(Cut cut, const std::vector<uint64_t>& tokens) {
  const Result<bool> made = cutter_->cut(cut);
  note_log_failure(made.ok() ? Status() : Status(made.error()));
  if (!made.ok() || !*made) {
    // The heads were told once and count until they are told anew.
    partial_.heads.insert(partial_.heads.begin(), cut.heads.begin(), cut.heads.end());
  } else {
    take_snapshot_position();
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
  const int64_t since = log_->open_since_ns();
  if (since == 0 || (!now && steady_ns() - since < sync_interval_ns_)) return;
  note_log_failure(log_->seal());
}

// When everything was read, and nothing of it in the middle of a transaction, the state at this
// point is the first snapshot's.
void Volume::take_snapshot_position() {
  {
    const std::scoped_lock lock(mutex_);
    if (!snapshot_wanted_ || snapshot_) return;
  }
  if (!cutter_->scan_settled()) return;
  const Result<Position> last = cutter_->append_empty();
  if (!last.ok()) return note_log_failure(last.error());
  auto snapshot = catalog_->snapshot({writer_->start, *last}, now_ns());
  if (!snapshot.ok()) return note_log_failure(snapshot.error());
  seal_if_due(true);
  const std::scoped_lock lock(mutex_);
  snapshot_ = std::move(*snapshot);
  snapshot_wanted_ = false;
  changed_.notify_all();
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

// ---- The scan's thread.

void Volume::run_scan() {
  if (comparison_) {
    comparison_->run(scan_.unread, stopping_);
  } else {
    upload_everything();
  }
  const std::scoped_lock lock(mutex_);
  scan_done_ = !stopping_;
  changed_.notify_all();
}

void Volume::upload_everything() {
  const Result<bool> done = first_upload_->run(scan_.unread, stopping_);
  if (!done.ok()) return note_log_failure(done.error());
  if (!*done) return;
  std::unique_lock lock(mutex_);
  snapshot_wanted_ = true;
  changed_.wait(lock, [&] { return stopping_ || snapshot_; });
  if (stopping_ && !snapshot_) return;
  lock.unlock();
  if (!put_snapshot(*snapshot_)) return;
  spdlog::info("the first upload is complete");
}

bool Volume::put_snapshot(const Snapshot& snapshot) {
  const Bytes object = encode_snapshot(snapshot);
  while (true) {
    const Status put =
        store_->put(snapshot_key(snapshot.range), ObjectBody::of(object), PutMode::kPlain);
    if (put.ok()) break;
    spdlog::warn("the first upload waits: {}", put.error().message);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, milliseconds(2000), [&] { return stopping_.load(); })) return false;
  }
  note_snapshot_done();
  const std::scoped_lock lock(mutex_);
  snapshot_done_ = true;
  changed_.notify_all();
  return true;
}

// Durable at once: a crash of a directory that is idle from now on must not repeat the upload.
void Volume::note_snapshot_done() {
  const std::scoped_lock lock(cut_mutex_);
  Status noted = catalog_->set_snapshot_done();
  if (noted.ok()) noted = log_->seal();
  if (noted.ok()) noted = catalog_->commit(log_->sealed());
  note_log_failure(noted);
}

// ---- Called from elsewhere.

void Volume::watch_heads(const FileState& database, bool present) {
  json request = present ? json{{"watch", database.id}, {"path", tracker_->path_of(database)}}
                         : json{{"unwatch", database.id}};
  const std::scoped_lock lock(mutex_);
  requests_.push_back(std::move(request));
}

// Files that are open for writing may have dirty pages in the kernel; all others were flushed when
// they were closed.
std::vector<std::string> Volume::paths_to_flush() {
  std::vector<std::string> paths;
  for (const auto& file : tracker_->all_states()) {
    {
      const std::scoped_lock lock(file->mutex);
      if (file->writers == 0 || !file->is_regular || file->role == Role::kShm ||
          file->role == Role::kGone)
        continue;
    }
    paths.push_back(tracker_->path_of(*file));
  }
  return paths;
}

bool Volume::first_upload_done() const {
  const std::scoped_lock lock(mutex_);
  return snapshot_done_;
}

// An epoch without a point yet has no position of its own.
std::string Volume::shown(Position position) const {
  return (position == writer_->start ? writer_->newest : position).to_string();
}

Result<json> Volume::sync(int64_t timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
  std::optional<Position> position;
  while (!position && std::chrono::steady_clock::now() < deadline) {
    std::vector<std::string> paths = paths_to_flush();
    std::unique_lock lock(mutex_);
    const uint64_t token = next_token_++;
    tokens_[token] = std::nullopt;
    while (paths.size() > kPathsPerMessage) {
      requests_.push_back(
          {{"barrier", 0}, {"paths", std::vector(paths.end() - kPathsPerMessage, paths.end())}});
      paths.resize(paths.size() - kPathsPerMessage);
    }
    requests_.push_back({{"barrier", token}, {"paths", paths}});
    const bool answered = changed_.wait_until(
        lock, deadline, [&] { return stopping_ || tokens_[token].has_value(); });
    const std::optional<Position> reached = tokens_[token];
    tokens_.erase(token);
    if (!answered || stopping_) break;
    if (*reached != Position{}) position = reached;
    lock.unlock();
    if (!position) std::this_thread::sleep_for(milliseconds(30));
  }
  if (!position) {
    const std::scoped_lock lock(mutex_);
    if (log_error_) return *log_error_;
    const std::string file = unsettled_path_.empty() ? "a file" : unsettled_path_;
    return Error{Errc::kRetry,
                 "not everything could be captured in time: " + file + " is being written or read"};
  }
  const auto left = [&] {
    return std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(
                                         deadline - std::chrono::steady_clock::now()));
  };
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, left(), [&] { return snapshot_done_ || stopping_; });
    // Nothing older than the first upload can be restored.
    if (snapshot_) position = std::max(*position, snapshot_->range.last);
  }
  if (!first_upload_done() || !uploader_->wait_for(*position, left())) {
    const UploadStatus status = uploader_->status();
    std::string message = first_upload_done()
                              ? std::to_string(status.segments_waiting) + " segments (" +
                                    std::to_string(status.bytes_waiting >> 10) +
                                    " KiB) still wait for " + store_->describe()
                              : "the first upload to " + store_->describe() + " goes on";
    if (status.error) message += ": " + status.error->message;
    if (chunks_) {
      if (const auto error = chunks_->error()) message += ": " + error->message;
    }
    return Error{status.fenced ? Errc::kConflict : Errc::kRetry, message};
  }
  return json{{"position", shown(*position)}};
}

json Volume::status() {
  const UploadStatus upload = uploader_->status();
  json answer;
  answer["replica"] = store_->describe();
  answer["position"] = shown(log_->last());
  answer["uploaded_position"] = shown(upload.uploaded);
  answer["lag_ms"] =
      upload.oldest_waiting_ns == 0 ? 0 : (steady_ns() - upload.oldest_waiting_ns) / kMs;
  answer["backlog"] = {{"segments", upload.segments_waiting}, {"bytes", upload.bytes_waiting}};
  answer["uploads"] = {{"puts", upload.puts}, {"bytes", upload.bytes_put}};
  answer["fenced"] = upload.fenced;
  std::optional<Error> error = upload.error;
  if (!error && chunks_) error = chunks_->error();
  {
    const std::scoped_lock lock(mutex_);
    if (log_error_) error = log_error_;
    answer["first_upload"] = {
        {"done", snapshot_done_},
        {"bytes_total", scan_.unread_bytes},
        {"bytes_done", first_upload_ ? first_upload_->bytes_done() : scan_.unread_bytes}};
  }
  answer["last_error"] = error ? json(error->message) : json(nullptr);
  json databases = json::array();
  for (const auto& file : tracker_->all_states()) {
    const std::scoped_lock lock(file->mutex);
    if (file->content == nullptr || !file->content->known.database) continue;
    databases.push_back({{"path", tracker_->path_of(*file)},
                         {"bytes", file->content->known.size},
                         {"wal", file->content->wal != nullptr},
                         {"settled", file->content->doubt == Doubt::kNone}});
  }
  answer["databases"] = std::move(databases);
  return answer;
}

// After the last request everything written has arrived and every handle is closed: one more cut
// takes it all. What comes after that cut is found by the next mount, which therefore must not take
// anything for unchanged.
Status Volume::finish(int64_t timeout_ms, bool all_served) {
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
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
    last.heads = std::exchange(partial_.heads, {});
    const Result<bool> made = cutter_->cut(last);
    if (!made.ok()) {
      note_log_failure(made.error());
      break;
    }
    take_snapshot_position();
    all = *made && !cutter_->unsettled();
    seal_if_due(true);
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [&] { return snapshot_done_; });
  }
  const auto left = std::max(milliseconds(100), std::chrono::duration_cast<milliseconds>(
                                                    deadline - std::chrono::steady_clock::now()));
  const bool shipped = uploader_->wait_for(log_->sealed(), left) && first_upload_done();
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (chunks_) chunks_->stop();
  uploader_->stop();
  if (cut_thread_.joinable()) cut_thread_.join();
  if (scan_thread_.joinable()) scan_thread_.join();
  if (all && all_served && save_signatures(backing_fd_, *tracker_, *catalog_).ok())
    WALFS_TRY(catalog_->set_clean());
  if (shipped) return {};
  const UploadStatus status = uploader_->status();
  std::string reason = status.error ? ": " + status.error->message : "";
  return Error{
      Errc::kRetry,
      (first_upload_done() ? std::to_string(status.segments_waiting) + " segments wait for "
                           : std::string("the first upload is not complete at ")) +
          store_->describe() + reason + "; the next mount goes on with them"};
}

std::unique_ptr<ServerHooks> make_volume() {
  return std::make_unique<Volume>();
}

}  // namespace walfs
