// A volume whose replication is paused: the mount serves as ever, and which files must be compared
// later is noted; nothing is captured, and the log does not grow. What the spool has goes on to the
// store.
//
// When no reason to pause is left (pause.h), it hands over to a server that compares and ships.
//
// Threads: the uploader's; the watch's, which opens what cannot be opened at once (a full disk must
// not keep the mount from being served), and decides.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fs/mount/hooks.h"
#include "fs/tracking/commit_gate.h"
#include "fs/tracking/pause.h"
#include "fs/tracking/ticker.h"
#include "fs/tracking/touched_observer.h"
#include "fs/tracking/volume_state.h"

namespace walfs {

class PausedVolume final : public ServerHooks {
 public:
  PausedVolume() = default;
  ~PausedVolume() override;

  Status start(const ServerContext& context) override;
  FileObserver& observer() override { return *observer_; }
  ReplyGate* reply_gate() override { return gate_.get(); }
  nlohmann::json status() override;
  Result<nlohmann::json> sync(int64_t timeout_ms) override;
  Status finish(int64_t timeout_ms, bool all_served) override;

 private:
  // What can be opened only when the disk allows it.
  struct Opened {
    VolumeState state;
    std::unique_ptr<Uploader> uploader;
  };

  void open_gate(const MountOptions& options);
  // The watch's thread.
  void watch();
  void try_to_open();
  void look_whether_drained();
  void look_whether_writable();
  Status write_to_spool() const;
  Status ask_store();
  // How often in a row there was a pause for the spool before this one, if not more often.
  uint32_t times_before() const;
  Opened* opened() const;
  UploadStatus upload_status() const;
  std::string what_is_missing() const;

  std::optional<ServerContext> context_;
  std::optional<Pause> pause_;
  std::unique_ptr<TouchedObserver> observer_;
  std::unique_ptr<CommitGate> gate_;  // Only if commits wait for the store.
  int64_t next_open_ms_ = 0;          // Of the watch, as all these.
  int64_t next_write_ms_ = 0;
  int64_t drained_after_ms_ = 0;
  int64_t next_ask_ms_ = 0;
  int64_t ask_pause_ms_ = 0;

  mutable std::mutex mutex_;  // For all below.
  std::condition_variable changed_;
  std::unique_ptr<Opened> opened_;  // Set once.
  std::optional<Error> error_;      // Why it is not, or why the store does not answer.
  bool stopping_ = false;

  std::unique_ptr<Ticker> watch_;
};

}  // namespace walfs
