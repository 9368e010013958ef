// Writers, and how they begin and end.
#include "tests/support/simulation.h"

namespace walfs::test {

void Simulation::new_writer() {
  link_ = std::make_unique<SimulatedStore>(cloud_, random_());
  TrackedDirectory::Options options;
  options.page_cache = page_cache_;
  options.seed = static_cast<uint32_t>(random_());
  options.start = false;
  options.uploads = link_.get();
  options.objects = &cloud_;
  options.parent = parent_.c_str();
  options.part_bytes = part_bytes_;
  options.write_through = commits_wait_;
  directory_ = std::make_unique<TrackedDirectory>(options);
  directory_->while_comparing = [this] { during_comparison(); };
  damage_ = std::make_unique<SimulatedDamage>(
      directory_->state(), scratch_.path("copies" + std::to_string(++writers_)), random_);
}

void Simulation::start(bool lost) {
  pending_.clear();
  for (int attempt = 0;; ++attempt) {
    if (attempt == 5 && link_->weather() != SimulatedStore::Weather::kFine)
      link_->set_weather(SimulatedStore::Weather::kFine);
    const Status started = directory_->try_start(lost);
    if (started.ok()) break;
    tell("the start fails: " + started.error().message);
    ASSERT_LT(attempt, 20) << started.error().message;
    ASSERT_EQ(started.error().code, Errc::kRetry) << started.error().message;
  }
  tell("epoch " + std::to_string(directory_->writer().epoch.number) +
       (directory_->writer().fresh ? ", a first upload of " : ", a comparison of ") +
       std::to_string(directory_->scan().unread.size()) + " files");
  scanning_ = true;
  must_begin_anew_ = false;
  damage_->forget();
}

void Simulation::server_dies() {
  // One process has room for the kept descriptors of one mount.
  if (zombie_ != nullptr || comparing_) return;
  tell("the server dies");
  end_disk_trouble();
  directory_->die();
  pending_.clear();
  instant_.reset();
  directory_->resume();
  if (directory_->writer().fresh) damage_->forget();  // A new header is durable.
  scanning_ = true;
}

void Simulation::machine_dies() {
  end_disk_trouble();
  databases_->die();
  instant_.reset();
  workloads_.clear();
  databases_->close_all();
  UnsyncedWrites unsynced = std::move(directory_->mount().unsynced());
  directory_->abandon();
  if (power_may_fail_ && pick(2) == 0) power_fails(unsynced);
  databases_->set_now(recovered(directory_->source()));
  check("after the crash");
  bool lost = false;
  tell("the machine dies; " + damage_->strike(lost));
  if (pick(3) == 0) change_unmounted();
  start(lost);
  if (failed()) return;
  databases_->attach(*directory_);
  // What a transaction that died hides is captured once SQLite has rolled it back.
  for (const auto& [name, pragmas] : pragmas_)
    if (!databases_->dead() && directory_->mount().exists(name)) open_database(name);
  if (databases_->dead()) machine_dies();
}

// What SQLite makes of it is its own affair; of ordinary files there is what there is.
void Simulation::power_fails(UnsyncedWrites& unsynced) {
  const size_t damaged = unsynced.strike(directory_->source(), random_);
  tell("the power fails: " + std::to_string(damaged) + " sectors are lost or garbled");
  sectors_damaged_ += damaged;
  const Tree tree = read_tree(directory_->source());
  for (const auto& [path, number] : SimulatedFiles::Names(files_.names())) {
    if (number == SimulatedFiles::kDirectory) continue;
    const std::string& content = tree.at(path).content;
    if (content != files_.content(path)) files_.put(path, content);
  }
}

void Simulation::unmount() {
  tell("unmounted");
  end_disk_trouble();
  workloads_.clear();
  databases_->close_all();
  if (instant_) late_cut();
  applications_ = false;
  const bool read = !scanning_ || scan(SIZE_MAX);
  if (directory_->make_last_cuts() && read) directory_->note_clean();
  for (int i = 0; i < 3; ++i) upload();
  databases_->die();
  directory_->abandon();
  if (pick(2) == 0) change_unmounted();
  applications_ = true;
  start(false);
  if (!failed()) databases_->attach(*directory_);
}

void Simulation::change_unmounted() {
  for (int i = 0; i < 4; ++i) {
    const std::string path = "f" + std::to_string(pick(5));
    if (files_.is_directory(path)) continue;
    if (files_.exists(path) && pick(3) == 0) {
      tell("unmounted: " + path + " is removed");
      std::filesystem::remove(directory_->source(path));
      files_.remove(path);
      continue;
    }
    tell("unmounted: " + path + " is written");
    const std::string content = some_content();
    std::ofstream(directory_->source(path), std::ios::binary) << content;
    // A clock that has moved since, however coarse it is.
    const struct timespec times[2] = {{0, UTIME_OMIT}, {1'000'000 + ++unmounted_changes_, 0}};
    ::utimensat(AT_FDCWD, directory_->source(path).c_str(), times, 0);
    files_.put(path, content);
  }
  for (const auto& [name, pragmas] : pragmas_) {
    if (pick(2) == 0) continue;
    tell("unmounted: " + name + " is written");
    sqlite3* db = nullptr;
    sqlite3_open(directory_->source(name).c_str(), &db);
    const std::string sql = pragmas +
                            "; CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b);"
                            "INSERT INTO t(b) VALUES(randomblob(2000))";
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
  databases_->set_now(recovered(directory_->source()));
}

void Simulation::take_over() {
  if (!restorable()) return;
  end_disk_trouble();
  workloads_.clear();
  databases_->close_all();
  databases_->die();
  instant_.reset();
  zombie_ = std::move(directory_);
  zombie_link_ = std::move(link_);
  tell("another host takes over");
  new_writer();
  const std::string target = restore_newest();
  if (failed()) return;
  std::filesystem::remove(directory_->source());
  std::filesystem::rename(target, directory_->source());
  const Tree tree = read_tree(directory_->source());
  files_.begin_with(without_databases(tree));
  databases_->set_now(recovered(directory_->source()));
  start(true);
  if (failed()) return;
  zombie_uploaded_ = zombie_->uploader().status().uploaded;
  databases_->attach(*directory_);
}

void Simulation::zombie_step() {
  switch (pick(4)) {
    case 0:
      zombie_->cut();
      break;
    case 1:
      static_cast<void>(zombie_->seal_locally().ok());
      break;
    case 2:
      tell("the zombie uploads");
      zombie_->uploader().step();
      EXPECT_EQ(zombie_->uploader().status().uploaded, zombie_uploaded_)
          << "a writer that was replaced acknowledges";
      compact(*zombie_);
      break;
    default:
      if (pick(6) != 0) break;
      tell("the zombie ends");
      zombie_->abandon();
      const Status again = zombie_->try_start();
      EXPECT_TRUE(!again.ok() || zombie_->writer().fencing == Fencing::kUnclaimed)
          << "a writer that was replaced begins anew";
      zombie_.reset();
      zombie_link_.reset();
  }
}

}  // namespace walfs::test
