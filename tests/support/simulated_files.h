// Ordinary files in a simulated directory: every tree of names that there was, every content that
// each file had, and whether a restored tree is one of them.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/tree_compare.h"

namespace walfs::test {

class SimulatedFiles {
 public:
  using Names = std::map<std::string, size_t>;  // The file's number by its path.
  static constexpr size_t kDirectory = SIZE_MAX;

  // A moment, from which on names and contents count.
  struct Moment {
    size_t names = 0;
    std::vector<size_t> contents;
  };

  const Names& names() const { return history_.back(); }
  bool exists(const std::string& path) const { return names().contains(path); }
  bool is_directory(const std::string& path) const {
    return exists(path) && names().at(path) == kDirectory;
  }
  const std::string& content(const std::string& path) const {
    return contents_[names().at(path)].back();
  }
  size_t name_count() const { return history_.size(); }

  void put(const std::string& path, std::string content) {
    if (exists(path)) {
      contents_[names().at(path)].push_back(std::move(content));
      return;
    }
    contents_.push_back({std::move(content)});
    change([&](Names& names) { names[path] = contents_.size() - 1; });
  }
  void make_directory(const std::string& path) {
    change([&](Names& names) { names[path] = kDirectory; });
  }
  void link(const std::string& from, const std::string& to) {
    change([&](Names& names) { names[to] = names.at(from); });
  }
  void remove(const std::string& path) {
    change([&](Names& names) { names.erase(path); });
  }
  // With all that is beneath it.
  void rename(const std::string& from, const std::string& to) {
    if (exists(from) && exists(to) && names().at(from) == names().at(to)) return;
    change([&](Names& names) {
      Names moved;
      for (const auto& [path, file] : names) {
        const bool beneath = path == from || path.starts_with(from + "/");
        if (path == to && !beneath) continue;
        moved[beneath ? to + path.substr(from.size()) : path] = file;
      }
      for (const auto& [path, file] : names) {
        const bool beneath = path == from || path.starts_with(from + "/");
        if (beneath) moved[to + path.substr(from.size())] = file;
      }
      names = std::move(moved);
    });
  }

  Moment now() const {
    Moment moment{history_.size() - 1, {}};
    for (const auto& versions : contents_) moment.contents.push_back(versions.size() - 1);
    return moment;
  }
  // Whether the tree, without the paths that are not ours, is the directory as it was at some
  // moment from `from` on, with content that each file had by then or later.
  bool matches(const Tree& tree, const Moment& from, std::string& why) const {
    why.clear();
    for (size_t i = from.names; i < history_.size(); ++i) {
      const std::string difference = compare(tree, history_[i], from);
      if (difference.empty()) return true;
      why += "    against names " + std::to_string(i) + ": " + difference + "\n";
    }
    return false;
  }
  // A writer begins with this tree; what was is no more expected of it.
  void begin_with(const Tree& tree) {
    Names names;
    std::map<std::string, size_t> by_twin;
    for (const auto& [path, entry] : tree) {
      if (path.empty()) continue;
      if (S_ISDIR(entry.mode)) {
        names[path] = kDirectory;
        continue;
      }
      const auto [twin, added] = by_twin.try_emplace(entry.twin, contents_.size());
      if (added) contents_.push_back({entry.content});
      names[path] = twin->second;
    }
    history_.push_back(std::move(names));
  }

 private:
  template <typename Change>
  void change(Change&& change) {
    Names names = history_.back();
    change(names);
    history_.push_back(std::move(names));
  }
  std::string compare(const Tree& tree, const Names& names, const Moment& from) const {
    for (const auto& [path, entry] : tree)
      if (!path.empty() && !names.contains(path)) return path + " was not there";
    for (const auto& [path, file] : names) {
      const auto found = tree.find(path);
      if (found == tree.end()) return path + " is missing";
      if ((file == kDirectory) != S_ISDIR(found->second.mode)) return path + " has another type";
      if (file == kDirectory) continue;
      const auto& versions = contents_[file];
      size_t version = file < from.contents.size() ? from.contents[file] : 0;
      while (version < versions.size() && versions[version] != found->second.content) ++version;
      if (version < versions.size()) continue;
      std::string text = path + " has " + std::to_string(found->second.content.size()) +
                         " bytes that it did not have from version ";
      text += std::to_string(file < from.contents.size() ? from.contents[file] : 0) + " on; equals";
      for (size_t i = 0; i < versions.size(); ++i)
        if (versions[i] == found->second.content) text += " " + std::to_string(i);
      return text + " of " + std::to_string(versions.size());
    }
    return "";
  }

  std::vector<Names> history_ = {{}};
  std::vector<std::vector<std::string>> contents_;
};

}  // namespace walfs::test
