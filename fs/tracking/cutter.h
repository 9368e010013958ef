// The cutter makes the points of the log: from time to time one instant of the whole directory.
//
// The flusher fixes the instant. It reads the volume's order and, from the -shm of each database in
// WAL mode, how far the application has committed (the heads); if neither moved while it looked,
// that was one instant. Then it has the kernel write everything back. What belongs before the
// instant is: names and rollback commits up to that order, and transactions of logs up to the
// heads. Later ones, though they may have arrived already, wait for the next cut.
//
// While files that were changed when nobody looked are compared with the replica there is no
// instant of the whole directory. What is found is brought into the log all the same, as partial
// points, so that neither memory nor the disk has to hold all of it; the next point that is not
// partial waits until the comparison has ended and every file that was brought in parts is at a
// boundary.
//
// One thread cuts. Everything else goes on meanwhile; a cut takes a file's lock only while it looks
// at that file.
#pragma once

#include <atomic>
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

// Heads that were told again count no more as they were told first: a -shm that outlived a crash
// promises frames that are gone, until SQLite has recovered it.
void add_heads(std::vector<Head>& heads, const std::vector<Head>& newer);

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
  // How much is gathered for one partial point, about.
  static constexpr uint64_t kPartBytes = uint64_t{16} << 20;
  Cutter(Tracker& tracker, Log& log, uint64_t part_bytes = kPartBytes)
      : tracker_(tracker), log_(log), part_bytes_(part_bytes) {}

  // Appends a point if anything changed, or if the last one is partial. False: frames that the
  // heads promise have not arrived, a head is missing, or files are compared; try again with the
  // next cut, for which these heads still count. An error means that the log could not be written
  // (no room): nothing is lost, the next call tries again.
  Result<bool> cut(const Cut& cut);
  // Appends a point even if nothing changed; the position of a snapshot. Only directly after a
  // successful cut().
  Result<Position> append_empty();

  // Everything arrives in the order in which it happens: heads are not needed, and not told.
  void do_without_heads() { heads_told_ = false; }
  // Between the two only partial points are made: files that were changed while nobody looked are
  // being compared, and a point without their changes would not be of one instant. After it the
  // next points wait a little until those of databases are at a boundary, too, and for files that
  // partial points have torn until they are. Any thread.
  void begin_comparison() { comparing_ = settling_ = true; }
  void end_comparison();
  // Of a comparison: captures files that were compared, at a boundary, until there is enough for a
  // partial point, and appends and seals that. True if there may be more.
  Result<bool> cut_part();

  // Whether something was taken from the tracker and is not in the log.
  bool pending() const { return !pending_.changes.empty(); }
  // Files with changes that have no boundary yet (their transaction is open or unsynced).
  bool unsettled() const { return !unsettled_.empty(); }
  // Whether every commit that a database has made is in a point.
  bool databases_settled() const { return databases_settled_; }
  std::string unsettled_path() const;  // Of one of them; empty if there is none.
  // Of a file that could not be read at the last cut: what it has is in no point until it can be.
  const std::optional<Error>& unreadable() const { return unreadable_; }
  // True when no file was read by the first upload in a state that may not be committed.
  bool scan_settled() const { return scan_settled_; }

 private:
  void gather_listed();
  bool wait_for_heads();
  bool head_arrived(FileState& database, const Head& head);
  const WalPoint* head_of(const FileState& database) const;
  bool heads_are_known(const Cut& cut);
  bool has_caught_up(const Cut& cut);
  bool lacks_head(const FileState& file, const Cut& cut) const;
  void look(FileState& file, bool force);
  void note_state(FileState& file);
  bool still_torn(FileState& file, const Cut& cut);
  bool any_torn(const Cut& cut);
  static uint64_t gathered(FileState& file);
  Result<bool> append_part();
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
  Log& log_;
  const uint64_t part_bytes_;
  std::vector<std::shared_ptr<FileState>> active_;
  std::vector<Head> waiting_heads_;  // Told since the last point was made.
  std::unordered_map<FileId, WalPoint> heads_;
  int64_t put_off_since_ns_ = 0;  // Cuts, for want of a head; 0: they are not.
  std::atomic<bool> comparing_{false};
  std::atomic<bool> settling_{false};  // From then until a point is made.
  // No earlier instant can be made a point of any more.
  std::atomic<uint64_t> whole_from_order_{0};
  std::atomic<int64_t> catch_up_until_ns_{0};  // 0: nothing is to be waited for.
  std::unordered_set<FileId> distrusted_;      // Their heads promised frames that never came.
  std::vector<std::pair<std::shared_ptr<FileState>, bool>> changed_kind_;
  Point pending_;          // Taken from the tracker and not yet in the log.
  Inodes pending_inodes_;  // Go into the catalog with it.
  std::vector<std::unique_ptr<CommitBuffer>> pending_buffers_;
  uint64_t cut_order_ = 0;
  std::vector<std::shared_ptr<FileState>> unsettled_;
  std::optional<Error> unreadable_;
  bool scan_settled_ = true;
  bool databases_settled_ = true;
  bool heads_told_ = true;
};

}  // namespace walfs
