// What a crash of the whole machine, or somebody's hand, makes of a state directory: an older copy
// of the catalog, segments that are back, cut off or garbled, nothing at all.
#pragma once

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tests/support/scratch_directory.h"

namespace walfs::test {

class SimulatedDamage {
 public:
  SimulatedDamage(std::string state, std::string copies, std::mt19937& random)
      : state_(std::move(state)), copies_(std::move(copies)), random_(random) {
    std::filesystem::create_directory(copies_);
    std::filesystem::create_directory(copies_ + "/spool");
  }

  // Keeps copies of what is there now.
  void remember() {
    for (const char* name : {"catalog.db", "catalog.db-wal"}) copy(state_, copies_, name);
    for (const auto& segment : segments(state_ + "/spool"))
      copy(state_ + "/spool", copies_ + "/spool", segment);
  }
  void forget() {
    std::filesystem::remove_all(copies_ + "/spool");
    std::filesystem::create_directory(copies_ + "/spool");
    std::filesystem::remove(copies_ + "/catalog.db");
  }

  // Something happens to the directory while no server runs; what, in words. `lost`: a server that
  // begins here knows nothing of the replica any more.
  std::string strike(bool& lost) {
    lost = false;
    switch (random_() % 10) {
      case 0:
        lost = true;
        std::filesystem::remove_all(state_);
        return "the state directory is gone";
      case 1:
        lost = true;
        write_whole(state_ + "/catalog.db", Bytes(4096, uint8_t{'x'}));
        std::filesystem::remove(state_ + "/catalog.db-wal");
        return "the catalog is garbled";
      case 2:
      case 3:
        return restore_catalog() ? "an older catalog is back" : "nothing";
      case 4:
        return restore_segments() ? "segments that were uploaded are back" : "nothing";
      case 5:
        return restore_catalog() && restore_segments() ? "an older catalog and segments are back"
                                                       : "nothing";
      case 6:
      case 7:
        return strike_segment();
      default:
        write_whole(state_ + "/spool/open.tmp", Bytes(random_() % 5000, uint8_t{'y'}));
        return "the open segment is garbled";
    }
  }

 private:
  static void copy(const std::string& from, const std::string& to, const std::string& name) {
    std::filesystem::remove(to + "/" + name);
    if (std::filesystem::exists(from + "/" + name))
      std::filesystem::copy_file(from + "/" + name, to + "/" + name);
  }
  static std::vector<std::string> segments(const std::string& spool) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(spool))
      if (entry.path().extension() == ".seg") names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  bool restore_catalog() {
    if (!std::filesystem::exists(copies_ + "/catalog.db")) return false;
    for (const char* name : {"catalog.db", "catalog.db-wal"}) copy(copies_, state_, name);
    return true;
  }
  // Unlinks that were not durable; in what order, nobody knows.
  bool restore_segments() {
    const auto kept = segments(copies_ + "/spool");
    if (kept.empty()) return false;
    const bool all = random_() % 2 == 0;
    for (const auto& segment : kept)
      if (all || random_() % 2 == 0) copy(copies_ + "/spool", state_ + "/spool", segment);
    return true;
  }
  std::string strike_segment() {
    const auto names = segments(state_ + "/spool");
    if (names.empty()) return "nothing";
    const std::string name = names[random_() % names.size()];
    const std::string path = state_ + "/spool/" + name;
    Bytes bytes = read_whole(path);
    switch (random_() % 3) {
      case 0:
        std::filesystem::resize_file(path, bytes.size() * (random_() % 8) / 8);
        return name + " is cut off";
      case 1:
        write_whole(path, Bytes(bytes.size(), 0));
        return name + " is all zeros";
      default:
        bytes[random_() % bytes.size()] ^= 0x10;
        write_whole(path, bytes);
        return name + " is garbled";
    }
  }

  const std::string state_, copies_;
  std::mt19937& random_;
};

}  // namespace walfs::test
