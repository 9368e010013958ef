// What applications do, between any two calls of SQLite's, too.
#include "tests/support/simulation.h"

namespace walfs::test {

void Simulation::statement() {
  const auto entry = std::next(pragmas_.begin(), pick(3));
  const size_t before = databases_->state_count();
  auto& workload = workloads_[entry->first];
  if (workload == nullptr) {
    open_database(entry->first);
  } else if (pick(25) == 0) {
    remove_database(entry->first);
  } else {
    tell("a statement of " + entry->first);
    workload->step();
  }
  if (databases_->dead() && !comparing_) return machine_dies();
  if (commits_wait_ && !comparing_ && databases_->state_count() != before) wait_for_store();
}

void Simulation::open_database(const std::string& name) {
  tell("opens " + name);
  workloads_[name] = std::make_unique<TrackedWorkload>(*databases_, name, pragmas_.at(name),
                                                       static_cast<uint32_t>(random_()));
}

void Simulation::remove_database(const std::string& name) {
  tell("removes " + name);
  workloads_.erase(name);
  databases_->close(name);
  if (databases_->dead()) return;
  for (const char* suffix : {"-journal", "-wal", "-shm", ""})
    if (directory_->mount().exists(name + suffix)) directory_->mount().unlink(name + suffix);
  databases_->set_content(name, "");
}

void Simulation::during_statement() {
  if (pick(25) != 0) return;
  const bool nested = std::exchange(in_statement_, true);
  do_during_statement();
  in_statement_ = nested;
}

void Simulation::do_during_statement() {
  switch (pick(12)) {
    case 0:
      if (pick(3) == 0) server_dies();
      break;
    case 1:
      if (pick(6) != 0) break;
      tell("the applications die");
      databases_->die();
      break;
    case 2:
      clock_.advance_ms(pick(5));
      break;
    default:
      replicate(pick(9));
  }
}

std::string Simulation::some_content() {
  std::string content(pick(3) == 0 ? pick(60000) : pick(300), static_cast<char>('a' + pick(26)));
  return content + std::to_string(++contents_);
}

std::string Simulation::some_path() {
  const std::string name = "f" + std::to_string(pick(5));
  return files_.is_directory("d") && pick(3) == 0 ? "d/" + name : name;
}

void Simulation::change_files() {
  TrackedMount& mount = directory_->mount();
  const std::string path = some_path(), other = some_path();
  const bool both = files_.exists(path) && path != other;
  switch (pick(10)) {
    case 0:
      if (files_.exists("d") || files_.exists("e")) {
        const std::string from = files_.exists("d") ? "d" : "e", to = from == "d" ? "e" : "d";
        tell("renames directory " + from);
        mount.rename(from, to);
        files_.rename(from, to);
      } else {
        tell("makes directory d");
        mount.make_directory("d");
        files_.make_directory("d");
      }
      break;
    case 1:
    case 2:
      if (!both) break;
      tell("renames " + path + " to " + other);
      mount.rename(path, other);
      files_.rename(path, other);
      break;
    case 3:
      if (!files_.exists(path)) break;
      tell("removes " + path);
      mount.unlink(path);
      files_.remove(path);
      break;
    case 4:
      if (!both || files_.exists(other)) break;
      tell("links " + path + " to " + other);
      mount.link(path, other);
      files_.link(path, other);
      break;
    case 5:
      if (!files_.exists(path)) break;
      append(path);
      break;
    default:
      tell("writes " + path);
      const std::string content = some_content();
      mount.put(path, content);
      files_.put(path, content);
  }
}

void Simulation::append(const std::string& path) {
  tell("appends to " + path);
  const std::string more = some_content();
  directory_->mount().append(path, more);
  files_.put(path, files_.content(path) + more);
}

}  // namespace walfs::test
