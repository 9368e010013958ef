#include "fs/tracking/cutter.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "replicator/time.h"

namespace walfs {
namespace {

constexpr int64_t kQuietNs = 300 * kNsPerMs;  // An ordinary file's pause that counts as a boundary.
constexpr int64_t kDirtyMaxNs = 5000 * kNsPerMs;  // And how long it may go on without one.
constexpr int64_t kHeadWaitNs = 2000 * kNsPerMs;  // For frames that are still on their way.
constexpr int64_t kPutOffMaxNs = 500 * kNsPerMs;  // For heads of logs that have just appeared.
constexpr int64_t kCatchUpMaxNs = 2000 * kNsPerMs;
constexpr unsigned kQuietCuts = 2;

}  // namespace

void add_heads(std::vector<Head>& heads, const std::vector<Head>& newer) {
  std::unordered_set<FileId> told;
  for (const Head& head : newer) told.insert(head.id);
  std::erase_if(heads, [&](const Head& head) { return told.contains(head.id); });
  heads.insert(heads.end(), newer.begin(), newer.end());
}

Result<bool> Cutter::cut(const Cut& cut) {
  add_heads(waiting_heads_, cut.heads);
  WALFS_TRY(append_pending());
  // Before the list: what is found different until the comparison ends must be in it.
  const bool comparing = comparing_;
  gather_listed();
  for (const auto& file : active_) {
    const std::scoped_lock lock(file->mutex);
    if (file->content != nullptr && file->content->wal != nullptr) {
      capture_wal(*file, tracker_.spool(), tracker_.next_order());
    }
  }
  if (!wait_for_heads() || !heads_are_known(cut)) return false;
  cut_order_ = cut.order;
  unsettled_.clear();
  unreadable_.reset();
  scan_settled_ = true;
  databases_settled_ = true;
  uint64_t gathered_bytes = 0;
  for (const auto& file : active_) {
    const std::scoped_lock lock(file->mutex);
    if (file->content == nullptr) continue;
    // What is compared is captured when there is room for it.
    if (!comparing) look(*file, cut.force);
    note_state(*file);
    let_go_of_descriptor(*file);
    gathered_bytes += gathered(*file);
  }
  if (comparing || !has_caught_up(cut)) {
    if (gathered_bytes < part_bytes_) return false;
    const Result<bool> appended = append_part();
    if (!appended.ok()) return appended.error();
    return false;
  }
  build_point(cut);
  if (pending_.changes.empty() && log_.partial()) WALFS_TRY(append_empty());
  WALFS_TRY(append_pending());
  waiting_heads_.clear();
  tidy();
  tracker_.let_go_of_removed(cut.order);
  return true;
}

Result<bool> Cutter::cut_part() {
  WALFS_TRY(append_pending());
  gather_listed();
  uint64_t gathered_bytes = 0;
  for (const auto& file : active_) {
    const std::scoped_lock lock(file->mutex);
    if (file->content != nullptr) gathered_bytes += gathered(*file);
  }
  for (const auto& file : active_) {
    if (gathered_bytes >= part_bytes_) break;
    const std::scoped_lock lock(file->mutex);
    // A large difference comes in parts, or with the point at the end.
    if (file->content == nullptr || file->content->dirty.total_bytes() > part_bytes_) continue;
    const uint64_t before = gathered(*file);
    look(*file, false);
    let_go_of_descriptor(*file);
    gathered_bytes += gathered(*file) - before;
  }
  if (gathered_bytes < part_bytes_) {
    tidy();
    return false;
  }
  return append_part();
}

// All that waits, whether it belongs to an instant that was given or not; later instants have it.
// Transactions of logs wait for their heads as ever: false if there was nothing else.
Result<bool> Cutter::append_part() {
  Cut everything;
  everything.order = whole_from_order_ = tracker_.next_order();
  build_point(everything);
  if (pending_.changes.empty()) return false;
  pending_.partial = true;
  WALFS_TRY(append_pending());
  tidy();
  WALFS_TRY(log_.seal());
  tracker_.sealed(/*compared=*/false);
  return true;
}

// The lock is held.
uint64_t Cutter::gathered(FileState& file) {
  uint64_t bytes = 0;
  for (const Commit& commit : file.content->commits)
    for (const auto& buffer : commit.buffers) bytes += buffer->size();
  return bytes;
}

void Cutter::gather_listed() {
  auto listed = tracker_.take_listed();
  active_.insert(active_.end(), listed.begin(), listed.end());
}

// Whether everything up to the head was read from the log; notes where the head is.
bool Cutter::head_arrived(FileState& database, const Head& head) {
  Content& content = *database.content;
  const auto known =
      std::find_if(content.generations.rbegin(), content.generations.rend(),
                   [&](const auto& generation) { return generation.first == head.salts; });
  if (known == content.generations.rend()) {
    // A log that was restarted and not written to yet: all that we know lies before it.
    heads_[head.id] = {content.generation_base + content.follower.generation(), UINT32_MAX};
    return head.frame == 0;
  }
  heads_[head.id] = {known->second, head.frame};
  // Of a log that was emptied or removed everything was read before (I3).
  const WalPoint reached{
      content.generation_base + content.follower.generation(),
      content.follower.following() ? content.follower.committed_frame() : UINT32_MAX};
  return content.wal == nullptr || reached >= heads_[head.id];
}

bool Cutter::wait_for_heads() {
  const int64_t deadline = steady_ns() + kHeadWaitNs;
  bool all = true;
  for (const Head& head : waiting_heads_) {
    const auto file = tracker_.find(head.id);
    if (file == nullptr) continue;
    while (true) {
      {
        const std::scoped_lock lock(file->mutex);
        if (file->content == nullptr) break;
        if (head_arrived(*file, head)) {
          distrusted_.erase(head.id);
          break;
        }
      }
      if (distrusted_.contains(head.id)) break;
      if (steady_ns() >= deadline) {
        spdlog::warn(
            "{}: frames that its -shm promises do not arrive; its points may be a moment apart "
            "from "
            "those of other databases",
            tracker_.path_of(*file));
        distrusted_.insert(head.id);
        all = false;
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::scoped_lock lock(file->mutex);
      if (file->content != nullptr && file->content->wal != nullptr) {
        capture_wal(*file, tracker_.spool(), tracker_.next_order());
      }
    }
  }
  return all;
}

// The head of the log that is there now; null if none was told.
const WalPoint* Cutter::head_of(const FileState& database) const {
  const auto head = heads_.find(database.id);
  const bool told =
      head != heads_.end() && head->second.generation > database.content->generation_base;
  return told ? &head->second : nullptr;
}

// False if the instant lacks the head of a log that has transactions from about that time: its -shm
// had only just appeared. The next instant has it. Applications that open and close their databases
// all the time must not keep points from being made.
bool Cutter::heads_are_known(const Cut& cut) {
  const bool all = cut.last || std::none_of(active_.begin(), active_.end(), [&](const auto& file) {
                     const std::scoped_lock lock(file->mutex);
                     return lacks_head(*file, cut);
                   });
  if (all) {
    put_off_since_ns_ = 0;
    return true;
  }
  const int64_t now = steady_ns();
  if (put_off_since_ns_ == 0) put_off_since_ns_ = now;
  return now - put_off_since_ns_ >= kPutOffMaxNs;
}

// What was removed before it was compared may be in an earlier instant.
void Cutter::end_comparison() {
  whole_from_order_ = tracker_.next_order();
  catch_up_until_ns_ = steady_ns() + kCatchUpMaxNs;
  comparing_ = false;
}

bool Cutter::has_caught_up(const Cut& cut) {
  if (!settling_) return true;
  if (cut.order < whole_from_order_ || any_torn(cut)) return false;
  const bool doubtful = std::any_of(active_.begin(), active_.end(), [](const auto& file) {
    const std::scoped_lock lock(file->mutex);
    return file->role == Role::kContent && file->content != nullptr &&
           file->content->known.database && file->content->doubt != Doubt::kNone;
  });
  if (doubtful && !cut.last && steady_ns() < catch_up_until_ns_) return false;
  settling_ = false;
  return true;
}

bool Cutter::any_torn(const Cut& cut) {
  bool any = false;
  for (const auto& file : active_) {
    const std::scoped_lock lock(file->mutex);
    if (file->content != nullptr && still_torn(*file, cut)) any = true;
  }
  return any;
}

// Whether a point of this instant would have the file as it never was.
bool Cutter::still_torn(FileState& file, const Cut& cut) {
  Content& content = *file.content;
  if (!content.torn_in_log && !content.torn) return false;
  const bool replicated = file.role == Role::kContent || file.kept_hot;
  if (replicated && file.created_order <= cut.order) {
    bool torn = content.torn_in_log;
    for (const Commit& commit : content.commits) {
      if (!belongs(file, commit, cut)) break;
      torn = commit.torn;
    }
    return torn;
  }
  if (replicated) return content.torn_in_log;
  // It went, or became a companion. An instant from before that would still have it.
  const bool gone = file.role == Role::kGone;
  if (gone && (file.gone_order == 0 || file.gone_order > cut.order)) return content.torn_in_log;
  const bool was_torn = content.torn_in_log;
  content.torn = content.torn_in_log = false;
  if (!gone) whole_from_order_ = tracker_.next_order();
  return was_torn && !gone;
}

bool Cutter::lacks_head(const FileState& file, const Cut& cut) const {
  if (!heads_told_) return false;
  if (file.content == nullptr || !file.content->has_shm || head_of(file) != nullptr) return false;
  const auto& commits = file.content->commits;
  return std::any_of(commits.begin(), commits.end(), [&](const Commit& commit) {
    return commit.wal && commit.wal->generation > file.content->generation_base &&
           commit.order > cut.order;
  });
}

void Cutter::look(FileState& file, bool force) {
  Content& content = *file.content;
  if (content.comparing) return;
  const bool left = !content.dirty.empty() || content.size_dirty;
  if (file.role == Role::kContent || file.kept_hot) {
    if (content.known.database || (!content.dirty.empty() && detect_kind(file).database)) {
      look_at_database(file, force);
    } else if (left && at_boundary(file, force)) {
      capture(file);
    }
  } else if (file.role == Role::kGone && file.gone_order > cut_order_ && file.own_fd.valid()) {
    // It went after the instant.
    if (left && !detect_kind(file).database && at_boundary(file, force)) capture(file);
  }
}

// What is told of a file after a look at it.
void Cutter::note_state(FileState& file) {
  Content& content = *file.content;
  ++content.quiet_cuts;
  const bool log_unread = content.wal_written_from != UINT64_MAX;
  const bool unreadable = file.read_error != 0 && (content.doubt != Doubt::kNone || log_unread);
  if (unreadable)
    unreadable_ = error_from_errno("cannot read " + tracker_.path_of(file), file.read_error);
  if (file.role != Role::kContent && !file.kept_hot) return;
  const bool left = !content.dirty.empty() || content.size_dirty;
  if (file.kept_hot && !content.comparing && !left) file.kept_whole = true;
  // An open transaction is not waited for, but in a database that is to go up with its hot journal.
  const bool open =
      content.journal_open && (content.known.database || content.hot_journal == nullptr);
  if (unreadable || content.comparing || content.torn || (content.doubt != Doubt::kNone && !open) ||
      (left && !content.follower.following() && !open)) {
    unsettled_.push_back(file.shared_from_this());
    // The replica may not have it yet, and so not know what it is.
    const bool is_database = content.known.database || content.wal != nullptr ||
                             content.journal != nullptr || detect_kind(file).database;
    databases_settled_ = databases_settled_ && !is_database;
  }
  scan_settled_ = scan_settled_ && !content.scanned_dirty;
}

bool Cutter::at_boundary(const FileState& file, bool force) const {
  const Content& content = *file.content;
  const int64_t now = steady_ns();
  return force || file.writers == 0 || content.boundary ||
         now - content.last_write_ns >= kQuietNs || now - content.dirty_since_ns >= kDirtyMaxNs;
}

// With its hot journal beside it in the replica a database is complete in the middle of a
// transaction, too.
bool Cutter::replica_has_hot_journal(const Content& database) {
  return database.hot_journal != nullptr && !database.hot_journal_ended &&
         database.hot_journal->kept_whole;
}

// A database is at a boundary when no transaction can be half there: see Doubt.
void Cutter::look_at_database(FileState& file, bool force) {
  Content& content = *file.content;
  // A checkpoint may have followed what came since the cut began: its pages are in the log, too.
  if (content.wal != nullptr && content.wal_written_from != UINT64_MAX)
    capture_wal(file, tracker_.spool(), tracker_.next_order());
  if (content.wal != nullptr && content.follower.following()) {
    check_checkpointed(file);
    content.size_dirty = false;
    if (content.doubt == Doubt::kNone && !content.scanned_dirty) return;
    const bool quiet = content.quiet_cuts >= kQuietCuts || file.writers == 0;
    if (content.doubt <= Doubt::kUnverified || quiet) capture(file);
    return;
  }
  // What has been written, if anything, is known.
  if (content.dirty.empty() && !content.size_dirty) {
    content.doubt = Doubt::kNone;
    return;
  }
  if (content.journal_open && !replica_has_hot_journal(content)) return;
  const unsigned enough = force || content.doubt == Doubt::kUnverified ? 1 : kQuietCuts;
  if (file.writers == 0 || content.quiet_cuts >= enough) capture(file);
}

void Cutter::capture(FileState& file) {
  Content& content = *file.content;
  const bool was_empty = content.known.size == 0;
  const bool was_database = content.known.database;
  auto commit = capture_dirty(file, tracker_.spool());
  if (content.doubt != Doubt::kNone) return;  // It could not be read.
  if (!content.journal_open) tracker_.forget_hot_journal(content, cut_order_);
  if (!commit) return;
  content.commits.push_back(std::move(*commit));
  if (was_database != content.known.database || (was_empty && content.known.size > 0)) {
    // Looked at without the lock, after this round.
    changed_kind_.emplace_back(file.shared_from_this(), content.known.database);
  }
}

bool Cutter::belongs(const FileState& file, const Commit& commit, const Cut& cut) const {
  if (cut.last) return true;
  // Also if the log has ended between the instant and now.
  const auto told = heads_.find(file.id);
  if (commit.wal && told != heads_.end() && *commit.wal <= told->second) return true;
  // Of a log that has ended no head will tell any more.
  if (commit.wal && file.content->has_shm &&
      commit.wal->generation > file.content->generation_base) {
    if (const WalPoint* head = head_of(file)) return *commit.wal <= *head;
  }
  return commit.order <= cut.order;
}

std::vector<Commit> Cutter::take_commits(FileState& file, const Cut& cut) {
  std::vector<Commit> taken;
  auto& commits = file.content->commits;
  if (file.created_order > cut.order) return taken;
  if (file.role == Role::kGone && file.gone_order <= cut.order) {
    commits.clear();
    return taken;
  }
  while (!commits.empty() && belongs(file, commits.front(), cut)) {
    taken.push_back(std::move(commits.front()));
    commits.pop_front();
  }
  if (!taken.empty()) file.content->torn_in_log = taken.back().torn;
  return taken;
}

// Of several states of one file only the last counts.
void Cutter::add_names(const Cut& cut) {
  std::vector<Change> names = tracker_.take_names(cut.order);
  const Inodes inodes = tracker_.take_inodes();
  pending_inodes_.insert(pending_inodes_.end(), inodes.begin(), inodes.end());
  std::unordered_set<FileId> seen;
  std::vector<Change> kept;
  for (auto change = names.rbegin(); change != names.rend(); ++change) {
    const auto* file = std::get_if<SetFile>(&*change);
    if (file != nullptr && !seen.insert(file->id).second) continue;
    const auto* drop = std::get_if<DropFile>(&*change);
    if (drop != nullptr) seen.erase(drop->id);
    kept.push_back(std::move(*change));
  }
  pending_.changes.assign(std::make_move_iterator(kept.rbegin()),
                          std::make_move_iterator(kept.rend()));
}

void Cutter::build_point(const Cut& cut) {
  add_names(cut);
  for (const auto& file : active_) {
    const std::scoped_lock lock(file->mutex);
    if (file->content == nullptr) continue;
    std::vector<Commit> commits = take_commits(*file, cut);
    for (const Commit& later : file->content->commits)
      scan_settled_ = scan_settled_ && !later.settles_scan;
    if (!commits.empty())
      pending_.changes.emplace_back(merge_commits(file->id, commits, pending_buffers_));
  }
}

std::string Cutter::unsettled_path() const {
  return unsettled_.empty() ? "" : tracker_.path_of(*unsettled_.front());
}

Status Cutter::append_pending() {
  if (pending_.changes.empty()) return {};
  WALFS_ASSIGN(const Position position, log_.append(pending_, pending_inodes_));
  static_cast<void>(position);
  pending_ = Point{};
  pending_buffers_.clear();
  pending_inodes_.clear();
  return {};
}

Result<Position> Cutter::append_empty() {
  Point point;
  return log_.append(point);
}

bool Cutter::idle(const FileState& file) const {
  if (file.content == nullptr) return true;
  const Content& content = *file.content;
  if (content.torn || content.torn_in_log) return false;
  if (!content.commits.empty() || content.wal_written_from != UINT64_MAX || content.comparing)
    return false;
  if (file.role == Role::kGone) return true;
  if (content.doubt != Doubt::kNone || content.scanned_dirty) return false;
  const bool left = !content.dirty.empty() || content.size_dirty;
  return !left || (content.follower.following() && !content.dirty_is_new);
}

// Forgets what has nothing to do any more; the next write lists it again.
void Cutter::tidy() {
  std::vector<std::shared_ptr<FileState>> done;
  std::erase_if(active_, [&](const std::shared_ptr<FileState>& file) {
    const std::scoped_lock lock(file->mutex);
    if (!idle(*file)) return false;
    file->listed = false;
    if (file->role == Role::kGone ||
        (file->writers == 0 && file->content != nullptr && file->content->wal == nullptr &&
         file->content->journal == nullptr && file->content->hot_journal == nullptr)) {
      // The catalog knows it all; and there are only so many descriptors. Whoever changes the file
      // again attaches it before; a companion that comes looks for its database.
      const bool is_database = file->content != nullptr && file->content->known.database;
      file->content.reset();
      if (file->path_fd >= 0 || !is_database) file->own_fd.reset();
    }
    done.push_back(file);
    return true;
  });
  for (const auto& file : done) tracker_.prune(file);
  for (const auto& [file, is_database] : std::exchange(changed_kind_, {})) {
    // What became an ordinary file comes with the next cut.
    if (tracker_.reclassify_companions(file, is_database)) unsettled_.push_back(file);
  }
}

}  // namespace walfs
