// Questions to a volume: sync and status.
#include "fs/tracking/volume_answers.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "fs/tracking/volume.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr size_t kPathsPerMessage = 100;

bool is_open_for_writing(FileState& file) {
  const std::scoped_lock lock(file.mutex);
  return file.writers > 0 && file.is_regular && file.role != Role::kShm && file.role != Role::kGone;
}

}  // namespace

std::string shown_position(const WriterStart& writer, Position position) {
  return (position == writer.start ? writer.newest : position).to_string();
}

std::string describe_backlog(const UploadStatus& upload, const Store& store) {
  return std::to_string(upload.segments_waiting) + " segments (" +
         std::to_string(upload.bytes_waiting >> 10) + " KiB) still wait for " + store.describe();
}

void describe_uploads(json& answer, const Store& store, const WriterStart& writer,
                      const UploadStatus& upload) {
  answer["replica"] = store.describe();
  answer["uploaded_position"] = shown_position(writer, upload.uploaded);
  answer["lag_ms"] =
      upload.oldest_waiting_ns == 0 ? 0 : (steady_ns() - upload.oldest_waiting_ns) / kNsPerMs;
  answer["backlog"] = {{"segments", upload.segments_waiting}, {"bytes", upload.bytes_waiting}};
  answer["uploads"] = {{"puts", upload.puts}, {"bytes", upload.bytes_put}};
  answer["outage_ms"] =
      upload.failing_since_ns == 0 ? 0 : (steady_ns() - upload.failing_since_ns) / kNsPerMs;
  answer["fenced"] = upload.fenced;
  answer["fencing"] = describe(upload.fencing);
}

void describe_gate(json& answer, const CommitGate* gate) {
  answer["durability"] = gate != nullptr ? "sync" : "async";
  if (gate == nullptr) return;
  const CommitGate::Status status = gate->status();
  answer["commits_waiting"] = status.waiting;
  answer["degraded"] = status.degraded;
  answer["commits_held"] = status.held;
  answer["commit_uploads"] = status.uploads;
}

// Files that are open for writing may have dirty pages in the kernel; all others were flushed when
// they were closed.
std::vector<Volume::ToFlush> Volume::files_to_flush() {
  std::vector<ToFlush> files;
  // Everything has arrived; and an fsync would wait for a commit that waits.
  if (gate_) return files;
  for (const auto& file : tracker_->all_states())
    if (is_open_for_writing(*file)) files.push_back({file, tracker_->path_of(*file)});
  return files;
}

// By its path nothing was flushed of a file that has moved meanwhile, unless it was closed.
bool Volume::any_has_moved(const std::vector<ToFlush>& files) {
  return std::any_of(files.begin(), files.end(), [this](const ToFlush& flushed) {
    return is_open_for_writing(*flushed.file) && tracker_->path_of(*flushed.file) != flushed.path;
  });
}

// Has everything that is open flushed, and waits for the point that has it; nothing if it must be
// tried again.
std::optional<Position> Volume::wait_for_point(std::chrono::steady_clock::time_point deadline) {
  const std::vector<ToFlush> files = files_to_flush();
  std::vector<std::string> paths(files.size());
  std::transform(files.begin(), files.end(), paths.begin(),
                 [](const ToFlush& each) { return each.path; });
  std::unique_lock lock(mutex_);
  const uint64_t token = next_token_++;
  tokens_[token] = std::nullopt;
  while (paths.size() > kPathsPerMessage) {
    requests_.push_back(
        {{"barrier", 0}, {"paths", std::vector(paths.end() - kPathsPerMessage, paths.end())}});
    paths.resize(paths.size() - kPathsPerMessage);
  }
  requests_.push_back({{"barrier", token}, {"paths", paths}});
  changed_.wait_until(lock, deadline, [&] { return stopping_ || tokens_[token].has_value(); });
  const std::optional<Position> reached = tokens_[token];
  tokens_.erase(token);
  lock.unlock();
  if (!reached || *reached == Position{} || any_has_moved(files)) return std::nullopt;
  return reached;
}

Result<json> Volume::sync(int64_t timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
  std::optional<Position> position;
  while (!position && !stopping_ && std::chrono::steady_clock::now() < deadline) {
    position = wait_for_point(deadline);
    if (!position) std::this_thread::sleep_for(milliseconds(30));
  }
  if (!position) {
    const std::scoped_lock lock(mutex_);
    if (log_error_) return *log_error_;
    if (const auto error = read_error()) return *error;
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
    position = std::max(*position, first_snapshot_);
  }
  if (!first_upload_done() || !uploader_->wait_for(*position, left())) {
    const UploadStatus status = uploader_->status();
    std::string message = first_upload_done()
                              ? describe_backlog(status, *store_)
                              : "the first upload to " + store_->describe() + " goes on";
    if (status.error) message += ": " + status.error->message;
    if (chunks_) {
      if (const auto error = chunks_->error()) message += ": " + error->message;
    }
    return Error{status.fenced ? Errc::kConflict : Errc::kRetry, message};
  }
  return json{{"position", shown_position(*writer_, *position)}};
}

json Volume::status() {
  const UploadStatus upload = uploader_->status();
  json answer;
  describe_uploads(answer, *store_, *writer_, upload);
  // What is behind it is partial, and can't be restored.
  const Position complete = log_->complete();
  answer["position"] = complete.to_string();
  if (upload.uploaded.sequence() >= complete.sequence())
    answer["uploaded_position"] = complete.to_string();
  answer["paused"] = nullptr;
  answer["spool_bytes"] = spool_bytes();
  answer["spool_limit"] = spool_limit_;
  std::optional<Error> error = upload.error;
  if (!error && chunks_) error = chunks_->error();
  {
    const std::scoped_lock lock(mutex_);
    if (const auto unreadable = read_error()) error = unreadable;
    if (log_error_) error = log_error_;
    answer["first_upload"] = {
        {"done", snapshot_done_},
        {"bytes_total", scan_.unread_bytes},
        {"bytes_done", first_upload_ ? std::min(first_upload_->bytes_done(), scan_.unread_bytes)
                                     : scan_.unread_bytes}};
  }
  describe_gate(answer, gate_.get());
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

}  // namespace walfs
