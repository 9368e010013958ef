// The volume: everything between the mount's observations and the store, for one mounted directory.
//
// Threads: the cutter's (makes points from the flusher's instants, seals segments), the scan's
// (first upload, or the comparison after a restart), the uploaders'; request threads only enter the
// tracker.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "fs/mount/hooks.h"
#include "fs/tracking/commit_gate.h"
#include "fs/tracking/content_scan.h"
#include "fs/tracking/cutter.h"
#include "fs/tracking/log_reader.h"
#include "fs/tracking/pause.h"
#include "fs/tracking/ticker.h"
#include "fs/tracking/tracker.h"
#include "replicator/catalog.h"
#include "replicator/chunk_uploader.h"
#include "replicator/log.h"
#include "replicator/upkeep.h"
#include "replicator/uploader.h"
#include "replicator/writer.h"

namespace walfs {

class Volume final : public ServerHooks {
 public:
  Volume() = default;
  ~Volume() override;

  Status start(const ServerContext& context) override;
  FileObserver& observer() override { return *tracker_; }
  ReplyGate* reply_gate() override { return gate_.get(); }
  nlohmann::json status() override;
  Result<nlohmann::json> sync(int64_t timeout_ms) override;
  Status finish(int64_t timeout_ms, bool all_served) override;

 private:
  Status begin(const ServerContext& context);
  Status open_state(const ServerContext& context);
  void start_threads();
  void open_gate(const MountOptions& options);
  std::optional<Position> seal_committed();

  // The cutter's thread.
  void run_cutter();
  void forget_earlier_instants();
  void introduce();
  void send_requests();
  bool receive_instant();
  void make_cut(const Cut& cut, const std::vector<uint64_t>& tokens);
  void complete_tokens(const std::vector<uint64_t>& tokens);
  void seal_if_due(bool now);
  bool compared() const;
  void take_snapshot_position(uint64_t order);
  void note_log_failure(const Status& status);
  bool log_failed() const;
  enum Reader { kCut, kScan };
  void note_unreadable(Reader reader, const std::optional<Error>& error);
  std::optional<Error> read_error() const;

  // The scan's thread.
  void run_scan();
  void ship_compared();
  uint64_t part_bytes() const;
  void wait_for_room();
  bool until_read(const std::function<Status()>& read);
  void upload_everything();
  bool put_snapshot(Snapshot snapshot);
  void note_snapshot_done();

  // The watch's thread.
  void watch_spool();
  std::optional<Pause::Reason> reason_to_pause();
  nlohmann::json pause_as_asked();

  // What waits for the store takes on the disk, and what is on its way there.
  uint64_t spool_bytes() const;
  void watch_heads(const FileState& database, bool present);
  struct ToFlush {
    std::shared_ptr<FileState> file;
    std::string path;
  };
  std::vector<ToFlush> files_to_flush();
  bool any_has_moved(const std::vector<ToFlush>& files);
  std::optional<Position> wait_for_point(std::chrono::steady_clock::time_point deadline);
  bool first_upload_done() const;

  std::string state_path_;
  int backing_fd_ = -1;
  int flusher_fd_ = -1;
  int64_t sync_interval_ns_ = 0;
  uint64_t spool_limit_ = 0;
  Trust trust_ = Trust::kNothing;
  uint64_t generation_ = 0;  // Which server of the mount this is.

  std::unique_ptr<Store> store_;
  std::unique_ptr<Catalog> catalog_;
  std::optional<WriterStart> writer_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Uploader> uploader_;
  std::unique_ptr<Tracker> tracker_;
  std::unique_ptr<LogReader> log_reader_;
  std::unique_ptr<Cutter> cutter_;
  std::unique_ptr<ChunkUploader> chunks_;
  std::unique_ptr<FirstUpload> first_upload_;
  std::unique_ptr<ContentComparison> comparison_;
  std::unique_ptr<CommitGate> gate_;  // Only if commits wait for the store.
  uint64_t gate_order_ = 0;           // Up to which its newest segment has commits; its thread's.
  TreeScan scan_;
  std::optional<Pause> pause_;
  std::atomic<bool> caught_up_{false};  // All that the comparison found is sealed.
  std::function<bool()> can_hand_over_;
  std::function<void()> hand_over_;

  std::atomic<bool> stopping_{false};
  std::thread cut_thread_, scan_thread_;
  std::unique_ptr<Ticker> watch_;

  std::mutex cut_mutex_;  // Held while a cut is made, so that finish() makes the last one.
  Cut partial_;           // An instant whose messages have not all come.

  mutable std::mutex mutex_;  // For all below.
  std::condition_variable changed_;
  std::deque<nlohmann::json> requests_;  // To the flusher.
  uint64_t next_token_ = 1;
  std::map<uint64_t, std::optional<Position>>
      tokens_;                  // Of sync calls: the position once it is known.
  std::string unsettled_path_;  // Why the last sync had to try again; empty if not for a file.
  bool scan_done_ = false;
  bool snapshot_wanted_ = false;
  // An earlier instant has files that were removed before anybody read them.
  uint64_t snapshot_order_ = 0;
  std::optional<Snapshot> snapshot_;  // Until it is uploaded.
  Position first_snapshot_;           // Of a first upload: its position.
  bool snapshot_done_ = false;
  std::optional<Error> log_error_;
  std::array<std::optional<Error>, 2> read_errors_;  // By Reader.
};

// One that replicates, or one that is paused.
std::unique_ptr<ServerHooks> make_volume(SharedState& shared);

}  // namespace walfs
