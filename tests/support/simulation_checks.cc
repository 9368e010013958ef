// What there was, and what comes back.
#include "replicator/verify.h"
#include "tests/support/simulation.h"

namespace walfs::test {

bool Simulation::restorable() {
  const auto history = read_history(cloud_);
  return history.ok() && !history->points.empty();
}

std::string Simulation::restore_newest() {
  RestoreOptions options;
  options.threads = 1;
  return restore_at(options);
}

std::string Simulation::restore_at(RestoreOptions options) {
  const std::string target = scratch_.path("restored" + std::to_string(++restored_));
  options.threads = 1;
  const auto report = walfs::restore(cloud_, target, options);
  EXPECT_TRUE(report.ok()) << report.error().message;
  return target;
}

TrackedDatabases::State Simulation::recovered(const std::string& directory) {
  TrackedDatabases::State state;
  const std::string copy = scratch_.make("copy");
  for (const auto& [name, pragmas] : pragmas_) {
    state[name] = "";
    if (!std::filesystem::exists(directory + "/" + name)) continue;
    for (const char* suffix : {"", "-wal", "-journal"})
      if (std::filesystem::exists(directory + "/" + name + suffix))
        std::filesystem::copy_file(directory + "/" + name + suffix, copy + "/" + name + suffix);
    sqlite3* db = nullptr;
    sqlite3_open(std::string(copy + "/").append(name).c_str(), &db);
    EXPECT_EQ(
        sqlite3_exec(db, "SELECT count(*) FROM sqlite_master; PRAGMA wal_checkpoint(TRUNCATE)",
                     nullptr, nullptr, nullptr),
        SQLITE_OK)
        << name << ": " << sqlite3_errmsg(db);
    sqlite3_close(db);
    state[name] = TrackedDatabases::without_tail(read_whole_file(copy + "/" + name));
  }
  std::filesystem::remove_all(copy);
  return state;
}

Tree Simulation::without_databases(Tree tree) const {
  for (const auto& [name, pragmas] : pragmas_)
    for (const char* suffix : {"", "-wal", "-shm", "-journal"}) tree.erase(name + suffix);
  return tree;
}

void Simulation::expect_restored(const std::string& target, const Moment& from,
                                 const std::string& when) {
  const Tree tree = without_databases(read_tree(target));
  const auto state = recovered(target);
  std::filesystem::remove_all(target);
  // All of one instant as a rule; after a death a new database may come a cut later.
  for (const auto& [name, content] : state)
    EXPECT_LT(databases_->find_state({{name, content}}, from.databases), databases_->state_count())
        << when << ": " << name << " is in no state since " << from.databases << " of "
        << databases_->state_count() << "\n"
        << databases_->describe(state, from.databases);
  std::string why;
  EXPECT_TRUE(files_.matches(tree, from.files, why))
      << when << ": the files are as they never were\n"
      << why;
}

void Simulation::check(const std::string& when) {
  if (!restorable()) {
    EXPECT_FALSE(acknowledged_) << when << ": what was acknowledged is gone";
    return;
  }
  tell("restore " + when);
  const std::string target = restore_newest();
  if (!failed()) expect_restored(target, acknowledged_.value_or(Moment{}), when);
}

void Simulation::end() {
  tell("the end");
  end_disk_trouble();
  link_->set_weather(SimulatedStore::Weather::kFine);
  if (zombie_link_ != nullptr) zombie_link_->set_weather(SimulatedStore::Weather::kFine);
  for (int i = 0; zombie_ != nullptr && i < 20 && !failed(); ++i) zombie_step();
  link_->deliver_all();
  applications_ = false;
  if (scanning_) scan(SIZE_MAX);
  Moment last = now();
  bool acknowledged = false;
  for (int round = 0; round < 30 && !acknowledged && !failed(); ++round) {
    clock_.advance_ms(200);
    if (must_begin_anew_) {
      unmount();
      applications_ = false;
      scan(SIZE_MAX);
      last = now();
    }
    sync();
    for (int i = 0; i < 200 && (i < 2 || !pending_.empty()); ++i) upload();
    acknowledged = directory_->snapshot_done() && pending_.empty() && acknowledged_ &&
                   acknowledged_->databases == last.databases &&
                   acknowledged_->files.names == last.files.names;
  }
  EXPECT_TRUE(acknowledged) << "a sync without faults is not acknowledged; unsettled: "
                            << directory_->cutter().unsettled_path();
  if (failed()) return;
  check("at the end");
  check_points();
  count_rare_objects();
  const auto report = verify_replica(cloud_);
  EXPECT_TRUE(report.ok()) << report.error().message;
  workloads_.clear();
  databases_->close_all();
  if (!report.ok()) return;
  EXPECT_TRUE(report->damaged.empty()) << join_lines(report->damaged);
}

void Simulation::count_rare_objects() {
  const auto listing = list_replica(cloud_);
  ASSERT_TRUE(listing.ok()) << listing.error().message;
  for (const StoredObject& segment : listing->segments) {
    const auto index = load_segment_index(cloud_, segment);
    if (!index.ok()) continue;
    thinned_segments_ += index->thinned ? 1 : 0;
    for (const Point& point : index->points) partial_points_ += point.partial ? 1 : 0;
  }
}

void Simulation::check_points() {
  const auto history = read_history(cloud_);
  ASSERT_TRUE(history.ok()) << history.error().message;
  for (int i = 0; i < 6 && !failed(); ++i) {
    RestoreOptions options;
    options.target.position =
        history->points[pick(static_cast<uint32_t>(history->points.size()))].position;
    const std::string target = restore_at(options);
    if (!failed()) expect_restored(target, Moment{}, options.target.position->to_string());
  }
}

}  // namespace walfs::test
