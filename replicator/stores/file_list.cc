#include "replicator/stores/file_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "replicator/base/beneath.h"
#include "replicator/stores/object_key.h"
#include "replicator/time.h"

namespace walfs {
namespace {

struct DirectoryCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

// Either begins with the other: the keys beneath `directory` can include some with `prefix`.
bool overlap(const std::string& directory, const std::string& prefix) {
  return directory.starts_with(prefix) || prefix.starts_with(directory);
}

class Walk {
 public:
  Walk(int root, const std::string& prefix, const std::string& after, size_t limit)
      : root_(root), prefix_(prefix), after_(after), limit_(limit) {}

  // `path` is "" or ends with a slash.
  Status directory(const std::string& path);
  std::vector<ObjectInfo> take() { return std::move(found_); }

 private:
  // The names of interest; those of directories end with a slash, so that the order of the names is
  // the order of the keys ("a-b" comes before "a/b").
  Result<std::vector<std::string>> read_names(Directory& directory, const std::string& path) const;
  bool is_wanted(const std::string& key) const;

  const int root_;
  const std::string& prefix_;
  const std::string& after_;
  const size_t limit_;
  std::vector<ObjectInfo> found_;
};

bool Walk::is_wanted(const std::string& key) const {
  if (key.back() != '/') return is_valid_key(key) && key.starts_with(prefix_) && key > after_;
  if (!is_valid_key(key.substr(0, key.size() - 1)) || !overlap(key, prefix_)) return false;
  return key > after_ || after_.starts_with(key);
}

Result<std::vector<std::string>> Walk::read_names(Directory& directory,
                                                  const std::string& path) const {
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const struct dirent* entry = readdir(directory.get());
    if (entry == nullptr) break;
    unsigned char type = entry->d_type;
    if (type == DT_UNKNOWN) {
      struct stat attributes {};
      if (fstatat(dirfd(directory.get()), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0) {
        continue;
      }
      type = S_ISDIR(attributes.st_mode) ? DT_DIR : S_ISREG(attributes.st_mode) ? DT_REG : DT_LNK;
    }
    if (type != DT_DIR && type != DT_REG) continue;
    std::string name = entry->d_name;
    if (type == DT_DIR) name.push_back('/');
    if (is_wanted(path + name)) names.push_back(std::move(name));
  }
  if (errno != 0) return error_from_errno("cannot read the directory " + path, errno);
  std::sort(names.begin(), names.end());
  return names;
}

Status Walk::directory(const std::string& path) {
  FileDescriptor fd = open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) return {};  // Removed meanwhile.
  if (!fd.valid()) return error_from_errno("cannot open the directory " + path, errno);
  Directory open(fdopendir(fd.get()));
  if (!open) return error_from_errno("cannot open the directory " + path, errno);
  fd.release();
  WALFS_ASSIGN(const std::vector<std::string> names, read_names(open, path));
  for (const std::string& name : names) {
    if (found_.size() == limit_) return {};
    if (name.back() == '/') {
      WALFS_TRY(directory(path + name));
      continue;
    }
    struct stat attributes {};
    if (fstatat(dirfd(open.get()), name.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(attributes.st_mode)) {
      continue;  // Removed meanwhile.
    }
    found_.push_back(
        {path + name, static_cast<uint64_t>(attributes.st_size),
         int64_t{attributes.st_mtim.tv_sec} * kNsPerSecond + attributes.st_mtim.tv_nsec});
  }
  return {};
}

}  // namespace

Result<std::vector<ObjectInfo>> list_files(int root, const std::string& prefix,
                                           const std::string& after, size_t limit) {
  Walk walk(root, prefix, after, limit);
  // Straight to the deepest directory that holds all keys with the prefix.
  const size_t slash = prefix.rfind('/');
  WALFS_TRY(walk.directory(slash == std::string::npos ? "" : prefix.substr(0, slash + 1)));
  return walk.take();
}

void remove_files_older_than(FileDescriptor directory, int64_t unix_s) {
  const Directory open(fdopendir(directory.get()));
  if (!open) return;
  directory.release();
  while (const struct dirent* entry = readdir(open.get())) {
    struct stat attributes {};
    const bool leftover =
        fstatat(dirfd(open.get()), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(attributes.st_mode) && attributes.st_mtime < unix_s;
    if (leftover) unlinkat(dirfd(open.get()), entry->d_name, 0);
  }
}

}  // namespace walfs
