// What happens in a simulation, step by step: what the server does, and what the store and the disk
// do.
#include "tests/support/simulation.h"

namespace walfs::test {

Simulation::Simulation(uint32_t seed) : random_(seed) {
  sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, static_cast<int>(seed), nullptr);
  static constexpr const char* kModes[] = {"WAL", "WAL", "DELETE", "TRUNCATE", "PERSIST"};
  static constexpr const char* kSynchronous[] = {"FULL", "NORMAL"};
  power_may_fail_ = pick(2) == 0;
  for (const char* name : {"x.db", "y.db", "z.db"}) {
    const uint32_t mode = pick(5);
    // SQLite promises nothing else of a rollback journal if the power fails.
    const bool must_sync = power_may_fail_ && mode > 1;
    pragmas_[name] = std::string("SELECT count(*) FROM sqlite_master; PRAGMA journal_mode=") +
                     kModes[mode] +
                     "; PRAGMA synchronous=" + kSynchronous[must_sync ? 0 : pick(2)] +
                     "; PRAGMA page_size=" + (pick(2) == 0 ? "1024" : "4096") +
                     "; PRAGMA wal_autocheckpoint=" + std::to_string(1 + pick(60));
  }
  commits_wait_ = pick(3) == 0;
  page_cache_ = !commits_wait_ && pick(3) != 0;
  static constexpr uint64_t kPartBytes[] = {2048, 9000, 40000, Cutter::kPartBytes};
  part_bytes_ = kPartBytes[pick(4)];
  for (const auto& [name, pragmas] : pragmas_) tell(name + ": " + pragmas);
  tell(std::string("the page cache is ") + (page_cache_ ? "on" : "off") +
       (commits_wait_ ? ", commits wait for the store" : ""));
  new_writer();
  start(false);
  databases_ = std::make_unique<TrackedDatabases>(*directory_);
  databases_->after_change = [this] { during_statement(); };
}

void Simulation::run(int steps) {
  for (int i = 0; i < steps && !failed(); ++i) step();
  if (!failed()) end();
  if (failed()) ADD_FAILURE() << "what happened:\n" << story_ << describe_replica();
}

std::string Simulation::describe_replica() const {
  std::string text = "the replica:\n";
  for (const auto& [key, bytes] : cloud_.objects()) {
    if (key.starts_with("chunks/")) continue;
    text += "  " + key;
    if (key.ends_with(".json")) text += " " + std::string(bytes.begin(), bytes.end());
    text += "\n";
  }
  return text;
}

void Simulation::step() {
  clock_.advance_ms(pick(5));
  if (must_begin_anew_ && zombie_ == nullptr) unmount();
  if (failed()) return;
  const uint32_t what = pick(100);
  if (what < 27) {
    statement();
  } else if (what < 45) {
    change_files();
  } else if (what < 88) {
    replicate(pick(10));
  } else if (what < 91) {
    check("in between");
  } else if (what < 93) {
    change_weather();
  } else if (what < 94) {
    disk_trouble_ ? end_disk_trouble() : begin_disk_trouble();
  } else if (what < 97) {
    server_dies();
  } else if (what < 98) {
    machine_dies();
  } else if (what < 99) {
    unmount();
  } else if (pick(2) == 0 && zombie_ == nullptr) {
    take_over();
  }
  if (zombie_ != nullptr && !failed()) zombie_step();
}

void Simulation::pass_time() {
  tell("time passes");
  for (uint32_t i = 1 + pick(6); i > 0; --i) {
    clock_.advance_ms(100);
    cut();
  }
}

void Simulation::replicate(uint32_t what) {
  switch (what) {
    case 0:
    case 1:
      cut();
      break;
    case 2:
      late_cut();
      break;
    case 3:
      seal();
      break;
    case 4:
    case 5:
      upload();
      break;
    case 6:
      sync();
      break;
    case 7:
      if (scanning_ && !comparing_) scan(pick(4));
      break;
    case 8:
      directory_->mount().write_back_some();
      break;
    default:
      if (pick(2) == 0) {
        directory_->mount().drop_caches();
      } else {
        pass_time();
      }
  }
}

void Simulation::cut() {
  if (instant_) late_cut();
  tell("cut");
  directory_->cut();
}

void Simulation::late_cut() {
  if (!instant_) {
    tell("an instant");
    instant_ = directory_->take_instant();
    directory_->mount().write_back_all();
    return;
  }
  tell("its cut");
  directory_->cut(*std::exchange(instant_, std::nullopt));
}

void Simulation::seal() {
  tell("seal");
  static_cast<void>(directory_->seal_locally().ok());
  // A copy is made only of what a running server keeps on the disk at such a moment.
  if (!disk_trouble_ && pick(4) == 0) damage_->remember();
}

void Simulation::upload() {
  if (directory_->snapshot_waits() && pick(2) == 0) {
    const Status stored = directory_->store_snapshot();
    tell(std::string("snapshot: ") + (stored.ok() ? "stored" : stored.error().message));
  } else if (directory_->uploader().step()) {
    const UploadStatus status = directory_->uploader().status();
    tell("upload: " + (status.error ? status.error->message : status.uploaded.to_string()));
    EXPECT_FALSE(status.fenced) << status.error->message;
    must_begin_anew_ = status.error && status.error->code == Errc::kDamaged;
  }
  note_acknowledged();
  if (pick(3) == 0) compact(*directory_);
}

void Simulation::compact(TrackedDirectory& directory) {
  const Result<bool> done = directory.upkeep().step();
  if (done.ok() && !*done) return;
  tell(std::string("compaction: ") + (done.ok() ? "done" : done.error().message));
  compactions_ += done.ok() ? 1 : 0;
}

bool Simulation::scan(size_t count) {
  if (directory_->writer().fresh) {
    // Chunks are sent until they are there.
    if (link_->weather() == SimulatedStore::Weather::kAway) return false;
  }
  tell("reads what the scan found");
  comparing_ = true;
  scanning_ = !directory_->read_unread(count);
  comparing_ = false;
  if (directory_->stopping.exchange(false)) {
    scanning_ = true;
    server_dies();
  }
  if (databases_->dead() && !in_statement_ && applications_) machine_dies();
  return !scanning_;
}

void Simulation::during_comparison() {
  if (!directory_->log().partial()) tell("much was found");
  if (directory_->log().partial()) tell("a partial point " + directory_->log().last().to_string());
  if (applications_ && zombie_ == nullptr && pick(12) == 0) {
    directory_->stopping = true;
    return;
  }
  for (uint32_t i = pick(3); i > 0; --i) {
    const uint32_t what = pick(4);
    if (what == 0 && applications_) {
      change_files();
    } else if (what == 1 && applications_ && !in_statement_ && !databases_->dead()) {
      statement();
    } else {
      replicate(pick(9));
    }
  }
}

void Simulation::sync() {
  const Moment moment = now();
  if (instant_) late_cut();
  for (int round = 0; round < 3; ++round) {
    clock_.advance_ms(30);
    if (!directory_->cut(true) || directory_->cutter().unsettled()) continue;
    if (!directory_->seal_locally().ok()) continue;
    if (directory_->log().sealed() != directory_->log().last()) continue;
    tell("sync waits for " + directory_->log().sealed().to_string());
    pending_.push_back({directory_->log().sealed(), moment});
    break;
  }
  note_acknowledged();
}

void Simulation::note_acknowledged() {
  if (!directory_->snapshot_done()) return;
  std::erase_if(pending_, [&](const Pending& sync) {
    const Position position = std::max(sync.position, directory_->snapshot_end());
    if (!directory_->uploader().wait_for(position, std::chrono::milliseconds(0))) return false;
    tell("acknowledged " + sync.position.to_string());
    const size_t returned = acknowledged_ ? acknowledged_->databases : 0;
    acknowledged_ = sync.moment;
    acknowledged_->databases = std::max(acknowledged_->databases, returned);
    return true;
  });
}

void Simulation::wait_for_store() {
  const size_t committed = databases_->state_count() - 1;
  for (int round = 0; round < 8 && !must_begin_anew_ && !failed(); ++round) {
    clock_.advance_ms(30);
    if (scanning_) scan(SIZE_MAX);
    if (databases_->dead()) return;
    const auto position = directory_->seal_committed();
    for (int i = 0; position && i < 4; ++i) upload();
    if (position && directory_->snapshot_done() &&
        directory_->uploader().wait_for(std::max(*position, directory_->snapshot_end()),
                                        std::chrono::milliseconds(0))) {
      tell("the commit returns");
      if (!acknowledged_) acknowledged_ = Moment{};
      acknowledged_->databases = committed;
      ++commits_returned_;
      return;
    }
    const uint32_t what = pick(20);
    if (what == 0) return machine_dies();
    if (what == 1) server_dies();
    if (what == 2) change_weather();
  }
}

void Simulation::change_weather() {
  static constexpr const char* kNames[] = {"fine", "rough", "away"};
  const uint32_t weather = pick(3);
  tell(std::string("the store is ") + kNames[weather]);
  link_->set_weather(static_cast<SimulatedStore::Weather>(weather));
}

void Simulation::begin_disk_trouble() {
  disk_trouble_ = true;
  if (pick(2) == 0) {
    const uint32_t percent = pick(2) == 0 ? 100 : 5 + pick(20);
    tell("the catalog cannot be written, " + std::to_string(percent) + " of 100 times");
    directory_->catalog_may_fail = true;
    catalog_disk_.fail(percent, static_cast<uint32_t>(random_()));
    return;
  }
  tell("the spool cannot be written");
  std::filesystem::rename(directory_->spool(), directory_->spool() + ".away");
}

void Simulation::end_disk_trouble() {
  if (!std::exchange(disk_trouble_, false)) return;
  if (std::exchange(directory_->catalog_may_fail, false)) {
    tell("the catalog can be written");
    catalog_disk_.heal();
    // What was read for a first upload is lost with the transaction that held it.
    must_begin_anew_ = must_begin_anew_ || directory_->catalog().baseline_lost();
    return;
  }
  tell("the spool can be written");
  std::filesystem::rename(directory_->spool() + ".away", directory_->spool());
}

}  // namespace walfs::test
