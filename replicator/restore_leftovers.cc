#include "replicator/restore_leftovers.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

namespace walfs {
namespace {

namespace fs = std::filesystem;

// Links and special files are made anew, as they are made last; so are all names but the first of a
// file that has several.
bool can_be_used(const struct stat& found, FileType planned) {
  if (S_ISDIR(found.st_mode)) return planned == FileType::kDirectory;
  return S_ISREG(found.st_mode) && found.st_nlink == 1 && planned == FileType::kRegular;
}

}  // namespace

Status keep_what_is_planned(const std::string& directory, const RestorePlan& plan,
                            const std::vector<PlannedPath>& paths) {
  std::unordered_map<std::string, FileType> planned;
  std::unordered_set<FileId> named;
  for (const PlannedPath& path : paths) {
    if (named.insert(path.id).second)
      planned.emplace(path.path, plan.files.at(path.id).attributes.type);
  }
  std::vector<std::string> left = {""};
  while (!left.empty()) {
    const std::string inside = left.back();
    left.pop_back();
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(fs::path(directory) / inside, failed)) {
      const std::string name = entry.path().filename().string();
      const std::string path = (fs::path(inside) / name).string();
      struct stat found {};
      if (::lstat(entry.path().c_str(), &found) != 0)
        return error_from_errno("cannot look at " + entry.path().string(), errno);
      const auto type = planned.find(path);
      const bool keep = type != planned.end() && can_be_used(found, type->second) &&
                        ::chmod(entry.path().c_str(), S_ISDIR(found.st_mode) ? 0700 : 0600) == 0;
      if (!keep) fs::remove_all(entry.path(), failed);
      if (keep && S_ISDIR(found.st_mode)) left.push_back(path);
      if (failed) break;
    }
    if (failed) return error_from_errno("cannot clear " + directory, failed.value());
  }
  return {};
}

}  // namespace walfs
