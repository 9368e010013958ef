// The cutter makes the points of the log: from time to time one instant of the whole directory.
//
// The flusher fixes the instant. It reads the volume's order and, from the -shm of each database in
// WAL mode, how far the application has committed (the heads); if neither moved while it looked,
// that was one instant. Then it has the kernel write everything back. What belongs before the
// instant is: names and rollback commits up to that order, and transactions of logs up to the
// heads. Later ones, though they may have arrived already, wait for the next cut.
//
// One thread cuts. Everything else goes on meanwhile; a cut takes a file's lock only while it looks
// at that file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/tracking/tracker.h"
#include "replicator/catalog.h"
#include "replicator/log.h"

namespace walfs {

// How far an application has committed to a write-ahead log.
struct Head {
  FileId id = kNoFile;
  WalSalts salts;
  uint32_t frame = 0;
};

struct Cut {
  uint64_t order = 0;
  std::vector<Head> heads;  // Of the databases whose head moved since the cut before.
  // Take what has no boundary yet, too: somebody waits, and everything written has arrived.
  bool force = false;
  // Nothing will come any more: heads count no longer.
  bool last = false;
};

class Cutter {
 public:
  Cutter(Tracker& tracker, Catalog& catalog, Log& log)
      : tracker_(tracker), catalog_(catalog), log_(log) {}

  // Appends a point if anything changed. False: frames that the heads promise have not arrived, or
  // a head is missing; try again with the next cut. An error means that the log could not be
  // written (no room): nothing is lost, the next call tries again.
  Result<bool> cut(const Cut& cut);
  // Appends a point even if nothing changed; the position of a snapshot. Only directly after a
  // successful cut().
  Result<Position> append_empty();

  // Files with changes that have no boundary yet (their transaction is open or unsynced).
  bool unsettled() const { return !unsettled_.empty(); }
  std::string unsettled_path() const;  // Of one of them; empty if there is none.
  // True when no file was read by the first upload in a state that may not be committed.
  bool scan_settled() const { return scan_settled_; }

 private:
  void gather_listed();
  bool wait_for_heads(const Cut& cut);
  bool head_arrived(FileState& database, const Head& head);
  const WalPoint* head_of(const FileState& database) const;
  bool heads_are_known(const Cut& cut);
  bool lacks_head(const FileState& file, const Cut& cut) const;
  void look(FileState& file, bool force);
  void look_at_database(FileState& file, bool force);
  static bool replica_has_hot_journal(const Content& database);
  bool at_boundary(const FileState& file, bool force) const;
  void capture(FileState& file);
  std::vector<Commit> take_commits(FileState& file, const Cut& cut);
  bool belongs(const FileState& file, const Commit& commit, const Cut& cut) const;
  bool idle(const FileState& file) const;
  void build_point(const Cut& cut);
  void add_names(const Cut& cut);
  Status append_pending();
  void tidy();

  Tracker& tracker_;
  Catalog& catalog_;
  Log& log_;
  std::vector<std::shared_ptr<FileState>> active_;
  std::unordered_map<FileId, WalPoint> heads_;
  int64_t put_off_since_ns_ = 0;           // Cuts, for want of a head; 0: they are not.
  std::unordered_set<FileId> distrusted_;  // Their heads promised frames that never came.
  std::vector<std::pair<std::shared_ptr<FileState>, bool>> changed_kind_;
  Point pending_;  // Taken from the tracker and not yet in the log.
  std::vector<std::unique_ptr<CommitBuffer>> pending_buffers_;
  uint64_t cut_order_ = 0;
  std::vector<std::shared_ptr<FileState>> unsettled_;
  bool scan_settled_ = true;
};

}  // namespace walfs
