// A replicated directory and all that can happen to it, decided by a seed: applications (SQLite
// itself, and ordinary files), the kernel's cache, cuts, seals and uploads, a store that fails in
// any way, disks of the spool and of the catalog that are full or ill, servers and machines that
// die, power that fails, directories that change while nobody looks, writers that are replaced. One
// thread, a clock of its own: a seed replays.
//
// What a restore gives is compared with every state that there was. Never a mixture; never older
// than what a sync acknowledged, or, where commits wait for the store, than the last that has
// returned; at the end, all.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/catalog_disk.h"
#include "tests/support/simulated_damage.h"
#include "tests/support/simulated_files.h"
#include "tests/support/simulated_store.h"
#include "tests/support/tracked_databases.h"

namespace walfs::test {

class Simulation {
 public:
  explicit Simulation(uint32_t seed);

  size_t partial_points() const { return partial_points_; }
  size_t thinned_segments() const { return thinned_segments_; }
  size_t commits_returned() const { return commits_returned_; }
  size_t sectors_damaged() const { return sectors_damaged_; }
  size_t compactions() const { return compactions_; }
  size_t catalog_faults() const { return catalog_disk_.faults(); }

  void run(int steps);

 private:
  // What a restore must not be older than.
  struct Moment {
    size_t databases = 0;
    SimulatedFiles::Moment files;
  };
  struct Pending {
    Position position;
    Moment moment;
  };

  uint32_t pick(uint32_t count) { return static_cast<uint32_t>(random_() % count); }
  static bool failed() { return ::testing::Test::HasFailure(); }
  void tell(const std::string& what) { story_ += "  " + what + "\n"; }

  std::string describe_replica() const;

  // ---- Writers, and how they begin and end.

  void new_writer();
  // Until it succeeds; a replica may be refused, and then `take_over` is what a person says.
  void start(bool lost);
  void server_dies();
  // Everything dies: server, keeper and applications, at any moment.
  void machine_dies();
  void power_fails(UnsyncedWrites& unsynced);
  void unmount();
  // Applications, or a person, while nothing is mounted.
  void change_unmounted();

  // Another host goes on with a restored directory; this one does not know it yet.
  void take_over();
  // What it still does is no part of the history, and is not acknowledged.
  void zombie_step();

  // ---- One step.

  void step();
  // The flusher does not sleep meanwhile.
  void pass_time();
  void replicate(uint32_t what);
  void cut();
  // The flusher takes an instant, and the server comes to it later. None is left out.
  void late_cut();
  void seal();
  void upload();
  void compact(TrackedDirectory& directory);
  bool scan(size_t count);
  // A comparison has brought something into the log, and goes on.
  void during_comparison();
  // As Volume::sync: acknowledged once the store has it.
  void sync();
  void note_acknowledged();
  // A commit waits for the store, and returns when it is there; or not, if something happens.
  void wait_for_store();
  void change_weather();
  void begin_disk_trouble();
  void end_disk_trouble();

  // ---- Applications.

  void statement();
  void open_database(const std::string& name);
  void remove_database(const std::string& name);
  // Between any two calls of SQLite's.
  void during_statement();
  void do_during_statement();
  std::string some_content();
  std::string some_path();
  void change_files();
  void append(const std::string& path);

  // ---- What there was, and what comes back.

  Moment now() const { return {databases_->state_count() - 1, files_.now()}; }
  bool restorable();
  std::string restore_newest();
  std::string restore_at(RestoreOptions options);
  // The databases of a directory as SQLite finds them, on copies.
  TrackedDatabases::State recovered(const std::string& directory);
  Tree without_databases(Tree tree) const;
  void expect_restored(const std::string& target, const Moment& from, const std::string& when);
  void check(const std::string& when);
  void end();
  void count_rare_objects();
  // Some of the history, too.
  void check_points();

  std::mt19937 random_;
  SimulatedClock clock_;
  CatalogDisk catalog_disk_;
  const std::string parent_ = std::filesystem::exists("/dev/shm")
                                  ? "/dev/shm"
                                  : std::filesystem::temp_directory_path().string();
  ScratchDirectory scratch_{parent_};
  MemoryStore cloud_;
  std::string story_;
  std::map<std::string, std::string> pragmas_;
  bool power_may_fail_ = false;
  bool commits_wait_ = false;
  bool page_cache_ = false;
  uint64_t part_bytes_ = 0;

  std::unique_ptr<SimulatedStore> link_, zombie_link_;
  std::unique_ptr<TrackedDirectory> directory_, zombie_;
  std::unique_ptr<SimulatedDamage> damage_;
  std::unique_ptr<TrackedDatabases> databases_;
  std::map<std::string, std::unique_ptr<TrackedWorkload>> workloads_;
  SimulatedFiles files_;

  std::optional<Cut> instant_;  // That the server has not come to.
  bool scanning_ = false;
  bool comparing_ = false;        // A comparison is on the stack.
  bool in_statement_ = false;     // So is a call of SQLite's.
  bool applications_ = true;      // They run.
  bool must_begin_anew_ = false;  // The uploader says so.
  size_t partial_points_ = 0;
  size_t thinned_segments_ = 0;
  size_t commits_returned_ = 0;
  size_t sectors_damaged_ = 0;
  size_t compactions_ = 0;
  bool disk_trouble_ = false;
  Position zombie_uploaded_;
  std::vector<Pending> pending_;
  std::optional<Moment> acknowledged_;
  size_t writers_ = 0, restored_ = 0, contents_ = 0;
  int64_t unmounted_changes_ = 0;
};

}  // namespace walfs::test
