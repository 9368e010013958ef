// The tracker: turns what the mount observes into commits of files and changes of names.
//
// It decides what each file is (a database, its companion, an ordinary file), sees transactions
// begin and end, and keeps what is ready until the cutter (cutter.h) makes a point of it. Requests
// that destroy something (a log restarted or removed) make it look first (I3).
//
// Locks, in this order: places_mutex_ (shared by whatever gives a file its place, held alone by who
// reconsiders one behind the application's back), a file's mutex (a companion's events take its
// database's), then names_mutex_ or list_mutex_.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fs/tracking/file_state.h"
#include "fs/tracking/observer.h"
#include "fs/tracking/touched_files.h"
#include "replicator/catalog.h"

namespace walfs {

class TrackedFile {
 public:
  explicit TrackedFile(std::shared_ptr<FileState> file) : state(std::move(file)) {}
  std::shared_ptr<FileState> state;
};

// What one request does to names: all of it happens at one instant.
struct NameEvent {
  std::vector<Change> changes;
  std::vector<std::shared_ptr<FileState>> appeared;  // Files that the replica did not have before.
  std::vector<std::shared_ptr<FileState>> gone;      // Files that lost their last name.
};

class Tracker final : public FileObserver {
 public:
  // `order` counts events and `touched` says what is not in the log yet; both lie in memory that
  // outlives the server. `root_fd` is the backing directory.
  Tracker(Catalog& catalog, std::string spool, int root_fd, std::atomic<uint64_t>& order,
          TouchedFiles::Table& touched);
  ~Tracker() override;
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // FileObserver.
  TrackedFile* attach(int path_fd, const struct stat& attributes, TrackedFile* parent,
                      const char* name) override;
  TrackedFile* attach_again(int path_fd, const struct stat& attributes, const std::string& path,
                            unsigned writers) override;
  void detach(TrackedFile* file) override;
  void opened_writable(TrackedFile* file) override;
  void closed_writable(TrackedFile* file) override;
  void before_write(TrackedFile* file, uint64_t offset, ByteView data) override;
  void wrote(TrackedFile* file, uint64_t offset, uint64_t size) override;
  void before_range_change(TrackedFile* file, uint64_t offset, uint64_t size) override;
  void range_changed(TrackedFile* file, uint64_t offset, uint64_t size) override;
  void before_truncate(TrackedFile* file, uint64_t new_size) override;
  void truncated(TrackedFile* file, uint64_t new_size) override;
  void before_fsync(TrackedFile* file) override;
  void synced(TrackedFile* file) override;
  void created(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void linked(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void before_unlink(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void unlinked(TrackedFile* parent, const char* name, TrackedFile* file) override;
  void before_rename(TrackedFile* parent, const char* name, TrackedFile* new_parent,
                     const char* new_name, TrackedFile* file, TrackedFile* replaced,
                     unsigned flags) override;
  void renamed(TrackedFile* parent, const char* name, TrackedFile* new_parent, const char* new_name,
               TrackedFile* file, TrackedFile* replaced, unsigned flags) override;
  void attributes_changed(TrackedFile* file) override;

  // For the start: ids of inodes that the catalog knows, files whose content nobody has read yet,
  // and states of files that need attention although the kernel does not know them.
  void set_id(uint64_t inode, FileId id);
  // Where a file with several names can be found.
  void set_link(uint64_t inode, const std::string& path);
  // Whether the file was changed after the log had last been sealed by a server that died.
  bool was_touched(uint64_t inode) const { return touched_.contains(inode); }
  // It is not known which files were changed: all of them, until they have been compared.
  void touch_everything() {
    touched_.set_everything(true);
    begins_ = true;
  }
  // A file of which the replica has nothing yet, or of which it is not known whether the replica
  // has what is there: when its content is loaded it is unknown, or doubted and to be compared.
  enum class Unread { kNothingThere, kPerhapsChanged };
  void set_unread(FileId id, Unread unread) { unread_[id] = unread; }
  void forget_unread(FileId id);
  bool is_unread(FileId id);  // Not any more if it was removed.
  int root_fd() const { return root_->own_fd.get(); }
  // Opens the file by its directory and name; its role is decided as for a lookup. Null if it is
  // gone.
  std::shared_ptr<FileState> open_state(const std::shared_ptr<FileState>& parent,
                                        const std::string& name);
  // The same by a path relative to the root.
  std::shared_ptr<FileState> open_path(const std::string& path);
  // Keeps a journal that nobody's transaction is behind in the replica, as a file; forgets it
  // together with the commit that takes the database as it is without the journal, whose place in
  // the order is given. The database's lock is held.
  void keep_hot_journal(const std::string& path);
  void forget_hot_journal(Content& database, uint64_t order);
  std::optional<FileId> id_of(uint64_t inode);
  // With an order if it belongs to an instant that was given to something else already.
  void record(NameEvent event, uint64_t order = 0);

  // Of files that were removed until then nothing is wanted any more.
  void let_go_of_removed(uint64_t cut_order);

  // Whether the log has the file as it is now, after a cut.
  bool is_in_log(FileId id);

  // For the cutter.
  std::vector<std::shared_ptr<FileState>> take_listed();
  void list(const std::shared_ptr<FileState>& file);  // The file's lock is held.
  // The log was sealed, and everything that the cutter has taken is in it. compared: every file was
  // compared with the replica since the start.
  void sealed(bool compared);
  std::vector<Change> take_names(uint64_t up_to_order);
  void note_inode(FileId id, uint64_t inode);
  Inodes take_inodes();
  // Forgets a state that nothing refers to any more but the caller, once; when somebody else does,
  // at a later seal.
  void prune(const std::shared_ptr<FileState>& file);
  // Of a file that was read and has nothing to do: the same for it, and for the directories above
  // it that nobody needs any more. Whoever calls has no other reference.
  void done_with(std::shared_ptr<FileState> file);
  // Called, with the path of the database, when a -shm appears or goes: whoever reads heads wants
  // to know. The calls come with locks held.
  void on_shm(std::function<void(const FileState& database, bool present)> callback) {
    on_shm_ = std::move(callback);
  }
  // Each write arrives at once and in order: commits are taken when they are made, and told to the
  // gate (commit_gate.h).
  void set_write_through() { write_through_ = true; }
  // Commits up to this order are in the store.
  void set_stored_order(uint64_t order) { stored_order_ = order; }
  uint64_t current_order() const { return order_; }
  // Called with the database when its log is synced and much of it was not read yet.
  void on_log_sync(std::function<void(const std::shared_ptr<FileState>&)> callback) {
    on_log_sync_ = std::move(callback);
  }
  // Takes what was committed in the database's log. Called without locks.
  void read_log(FileState& database);
  // All databases with content in memory, for heads and for status.
  std::shared_ptr<FileState> find(FileId id);
  std::vector<std::shared_ptr<FileState>> all_states();
  // Loads the content of a file with Role::kContent, or of one that was removed before its
  // companions; its mutex is held. The cutter lets go of content between any two calls.
  Content& ensure_content(FileState& file);
  std::string path_of(const FileState& file);  // Relative to the root.
  void set_next_id(FileId id) { next_id_ = id; }
  FileId new_id() { return next_id_++; }
  uint64_t next_order() { return ++order_; }
  const std::string& spool() const { return spool_; }
  // What a file with a new kind means for the files beside it: companions of what is no database
  // are ordinary files, and the reverse. True if any changed. Called without locks.
  bool reclassify_companions(const std::shared_ptr<FileState>& file, bool is_database);

 private:
  void prune_again();
  static void forget_known(Content& content);
  std::shared_ptr<FileState> state_for(int path_fd, const struct stat& attributes,
                                       const std::shared_ptr<FileState>& parent, const char* name);
  void decide_role(const std::shared_ptr<FileState>& file, const std::shared_ptr<FileState>& parent,
                   const char* name);
  void bind_companion(const std::shared_ptr<FileState>& file,
                      const std::shared_ptr<FileState>& base);
  void adopt_companions(const std::shared_ptr<FileState>& file, NameEvent& event);
  void release_companions(const std::shared_ptr<FileState>& parent, const std::string& name,
                          bool database_lives, NameEvent& event);
  void expect_change(const std::shared_ptr<FileState>& file, uint64_t begin, uint64_t end);
  void note_change(const std::shared_ptr<FileState>& file, uint64_t begin, uint64_t end);
  void note_commit(Content& database, bool committed);
  void note_synced(FileState& database);
  void note_unsynced(FileState& database);
  bool is_synced(uint64_t inode);
  void note_journal_write(const std::shared_ptr<FileState>& journal);
  void look_before(FileState& wal);
  void end_transaction(const std::shared_ptr<FileState>& database);
  void end_super_journal(const std::string& name);
  void capture_now(const std::shared_ptr<FileState>& file);
  std::pair<std::shared_ptr<FileState>, std::string> place_of(const FileState& file);
  void add_file(const std::shared_ptr<FileState>& file, NameEvent& event);
  bool hold(const std::shared_ptr<FileState>& file);  // Its lock is held.
  void drop_if_unlinked(const std::shared_ptr<FileState>& file, NameEvent& event);
  void companion_gone(const std::shared_ptr<FileState>& file, const char* name);
  void place(const std::shared_ptr<FileState>& parent, const char* name,
             const std::shared_ptr<FileState>& file, NameEvent& event);

  Catalog& catalog_;
  const std::string spool_;
  std::atomic<uint64_t>& order_;
  std::atomic<FileId> next_id_{kRootId + 1};
  uint64_t device_ = 0;
  bool write_through_ = false;
  bool begins_ = false;  // The mount does: the kernel has nothing from before.
  std::atomic<uint64_t> stored_order_{0};
  std::shared_ptr<FileState> root_;
  std::function<void(const FileState&, bool)> on_shm_;
  std::function<void(const std::shared_ptr<FileState>&)> on_log_sync_;

  std::shared_mutex places_mutex_;
  std::mutex names_mutex_;                                           // For all below.
  std::unordered_map<uint64_t, std::shared_ptr<FileState>> states_;  // By inode.
  std::unordered_map<FileId, std::shared_ptr<FileState>> by_id_;
  std::unordered_map<uint64_t, FileId> ids_;  // By inode.
  std::unordered_map<FileId, Unread> unread_;
  std::vector<std::pair<uint64_t, Change>> names_;  // With their order.
  Inodes inodes_;
  std::unordered_set<FileId> prune_again_;
  std::vector<std::shared_ptr<FileState>> held_;     // Removed, with what an instant may want.
  std::unordered_map<uint64_t, std::string> links_;  // Paths of files with several names.

  std::mutex list_mutex_;  // For all below.
  std::vector<std::shared_ptr<FileState>> listed_;
  TouchedFiles touched_;
  std::vector<uint64_t> touched_before_;  // By a server that died.
  std::vector<std::shared_ptr<FileState>> touched_now_;
};

}  // namespace walfs
