// The mount against a plain directory: random sequences of operations are applied to both, and
// every result, errno and the whole tree afterwards must be equal.
//
// A failure prints its seed; WALFS_TEST_SEED=N runs that one again, WALFS_TEST_STEPS=N makes it
// longer.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/mounted_directory.h"

namespace walfs::test {
namespace {

constexpr int kOpenFiles = 6;
constexpr int kSteps = 1500;
constexpr int kStepsBetweenTreeChecks = 25;

// What an operation came to: its result and errno, and the data it read.
struct Outcome {
  int64_t result = 0;
  int error = 0;
  std::string data;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(int64_t result, std::string data = {}) {
  return {result, result < 0 ? errno : 0, result < 0 ? std::string() : std::move(data)};
}

std::string to_text(const Outcome& outcome) {
  std::string text = std::to_string(outcome.result);
  if (outcome.error != 0) text += std::string(" ") + std::strerror(outcome.error);
  if (!outcome.data.empty()) text += " (" + std::to_string(outcome.data.size()) + " bytes)";
  return text;
}

// One of the two directories, with its open files.
class Side {
 public:
  explicit Side(std::string root) : root_(std::move(root)) { files_.fill(-1); }
  ~Side() {
    for (int fd : files_)
      if (fd >= 0) close(fd);
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  std::string at(const std::string& name) const { return root_ + "/" + name; }
  int& file(int slot) { return files_.at(static_cast<size_t>(slot)); }

 private:
  std::string root_;
  std::array<int, kOpenFiles> files_;
};

// An operation with its arguments fixed, so that both sides do the same.
struct Operation {
  std::string text;
  std::function<Outcome(Side&)> run;
};

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  Operation next() {
    // By weight: data first, because there the page cache makes two of everything.
    static const std::vector<std::pair<int, Operation (Generator::*)()>> kinds = {
        {8, &Generator::open_file},   {6, &Generator::close_file},   {12, &Generator::write_data},
        {10, &Generator::read_data},  {4, &Generator::truncate},     {3, &Generator::sync},
        {4, &Generator::make_dir},    {3, &Generator::remove_dir},   {6, &Generator::remove},
        {6, &Generator::rename},      {4, &Generator::make_link},    {3, &Generator::make_symlink},
        {3, &Generator::change_mode}, {3, &Generator::change_owner}, {3, &Generator::set_times},
        {3, &Generator::set_xattr},   {3, &Generator::get_xattr},    {2, &Generator::remove_xattr},
        {3, &Generator::allocate},    {2, &Generator::copy_range},   {2, &Generator::make_node},
        {4, &Generator::look},        {2, &Generator::read_link},    {2, &Generator::list},
        {2, &Generator::exchange},
    };
    int total = 0;
    for (const auto& kind : kinds) total += kind.first;
    int choice = below(total);
    for (const auto& [weight, make] : kinds) {
      if (choice < weight) return (this->*make)();
      choice -= weight;
    }
    return look();
  }

 private:
  int below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }

  // Few names, so that operations meet.
  std::string name() {
    static const char* const directories[] = {"", "", "d1/", "d2/", "d1/d3/"};
    static const char* const names[] = {"a", "b", "c", "d1", "d2", "d3", "link"};
    return std::string(directories[below(5)]) + names[below(7)];
  }
  uint64_t offset() {
    static const uint64_t bases[] = {0, 1, 4095, 4096, 8192, 65536, 1 << 20};
    return bases[below(7)] + static_cast<uint64_t>(below(100));
  }
  size_t length() {
    static const size_t sizes[] = {1, 24, 512, 4096, 5000, 32768, 300000};
    return sizes[below(7)];
  }

  Operation open_file() {
    static const int ways[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_APPEND};
    int slot = below(kOpenFiles);
    int flags = ways[below(4)];
    if (below(2) == 0) flags |= O_CREAT;
    if (below(4) == 0) flags |= O_EXCL;
    if (below(5) == 0) flags |= O_TRUNC;
    if (below(12) == 0) flags |= O_DIRECTORY;
    if (below(12) == 0) flags |= O_NOFOLLOW;
    if ((flags & O_DIRECTORY) != 0) flags &= ~O_CREAT;
    mode_t mode = below(2) == 0 ? 0644 : 0600;
    std::string path = name();
    return {"open " + path + " flags " + std::to_string(flags), [=](Side& side) {
              if (side.file(slot) >= 0) close(side.file(slot));
              side.file(slot) = open(side.at(path).c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
              return outcome_of(side.file(slot) < 0 ? -1 : 0);
            }};
  }
  Operation close_file() {
    int slot = below(kOpenFiles);
    return {"close " + std::to_string(slot), [=](Side& side) {
              int fd = std::exchange(side.file(slot), -1);
              return outcome_of(fd < 0 ? 0 : close(fd));
            }};
  }
  Operation write_data() {
    int slot = below(kOpenFiles);
    uint64_t where = offset();
    std::string data(length(), static_cast<char>('a' + below(26)));
    bool append = below(4) == 0;
    return {"write " + std::to_string(data.size()) + " at " + std::to_string(where) + " to " +
                std::to_string(slot),
            [=](Side& side) {
              int fd = side.file(slot);
              if (!is_regular(fd)) return Outcome{};
              ssize_t put = append
                                ? ::write(fd, data.data(), data.size())
                                : pwrite(fd, data.data(), data.size(), static_cast<off_t>(where));
              return outcome_of(put);
            }};
  }
  Operation read_data() {
    int slot = below(kOpenFiles);
    uint64_t where = offset();
    size_t size = length();
    return {"read " + std::to_string(size) + " at " + std::to_string(where) + " of " +
                std::to_string(slot),
            [=](Side& side) {
              int fd = side.file(slot);
              if (!is_regular(fd)) return Outcome{};
              std::string data(size, '\0');
              ssize_t got = pread(fd, data.data(), size, static_cast<off_t>(where));
              data.resize(got < 0 ? 0 : static_cast<size_t>(got));
              return outcome_of(got, data);
            }};
  }
  Operation truncate() {
    uint64_t size = offset();
    if (below(2) == 0) {
      int slot = below(kOpenFiles);
      return {"ftruncate " + std::to_string(slot) + " to " + std::to_string(size), [=](Side& side) {
                return outcome_of(ftruncate(side.file(slot), static_cast<off_t>(size)));
              }};
    }
    std::string path = name();
    return {"truncate " + path + " to " + std::to_string(size), [=](Side& side) {
              return outcome_of(::truncate(side.at(path).c_str(), static_cast<off_t>(size)));
            }};
  }
  Operation sync() {
    int slot = below(kOpenFiles);
    bool data_only = below(2) == 0;
    return {"fsync " + std::to_string(slot), [=](Side& side) {
              int fd = side.file(slot);
              return outcome_of(data_only ? fdatasync(fd) : fsync(fd));
            }};
  }
  Operation make_dir() {
    std::string path = name();
    mode_t mode = below(4) == 0 ? 02755 : 0755;
    return {"mkdir " + path,
            [=](Side& side) { return outcome_of(mkdir(side.at(path).c_str(), mode)); }};
  }
  Operation remove_dir() {
    std::string path = name();
    return {"rmdir " + path, [=](Side& side) { return outcome_of(rmdir(side.at(path).c_str())); }};
  }
  Operation remove() {
    std::string path = name();
    return {"unlink " + path,
            [=](Side& side) { return outcome_of(unlink(side.at(path).c_str())); }};
  }
  Operation rename_with(unsigned flags) {
    std::string from = name();
    std::string to = name();
    return {"rename " + from + " to " + to + " flags " + std::to_string(flags), [=](Side& side) {
              return outcome_of(
                  renameat2(AT_FDCWD, side.at(from).c_str(), AT_FDCWD, side.at(to).c_str(), flags));
            }};
  }
  Operation rename() { return rename_with(below(5) == 0 ? 1 : 0); }
  Operation exchange() { return rename_with(2); }
  Operation make_link() {
    std::string from = name();
    std::string to = name();
    return {"link " + from + " to " + to, [=](Side& side) {
              return outcome_of(::link(side.at(from).c_str(), side.at(to).c_str()));
            }};
  }
  Operation make_symlink() {
    std::string target = name();
    std::string path = name();
    return {"symlink " + path + " to " + target,
            [=](Side& side) { return outcome_of(symlink(target.c_str(), side.at(path).c_str())); }};
  }
  Operation change_mode() {
    static const mode_t modes[] = {0644, 0600, 0755, 04755, 02755, 06711, 01777, 0};
    mode_t mode = modes[below(8)];
    std::string path = name();
    return {"chmod " + path + " " + std::to_string(mode),
            [=](Side& side) { return outcome_of(chmod(side.at(path).c_str(), mode)); }};
  }
  Operation change_owner() {
    auto uid = static_cast<uid_t>(below(2) * 1000);
    auto gid = below(2) == 0 ? static_cast<gid_t>(-1) : gid_t{1001};
    std::string path = name();
    return {"lchown " + path,
            [=](Side& side) { return outcome_of(lchown(side.at(path).c_str(), uid, gid)); }};
  }
  Operation set_times() {
    timespec times[2] = {{1000000000 + below(1000), 123456789}, {1100000000 + below(1000), 987}};
    if (below(4) == 0) times[0].tv_nsec = UTIME_OMIT;
    if (below(4) == 0) times[1].tv_nsec = UTIME_OMIT;
    int flags = below(2) == 0 ? AT_SYMLINK_NOFOLLOW : 0;
    std::string path = name();
    timespec atime = times[0];
    timespec mtime = times[1];
    return {"utimensat " + path, [=](Side& side) {
              timespec both[2] = {atime, mtime};
              Outcome outcome = outcome_of(utimensat(AT_FDCWD, side.at(path).c_str(), both, flags));
              struct stat seen;
              if (outcome.result == 0 &&
                  fstatat(AT_FDCWD, side.at(path).c_str(), &seen, flags) == 0 &&
                  mtime.tv_nsec != UTIME_OMIT)
                outcome.data = std::to_string(seen.st_mtim.tv_sec) + "." +
                               std::to_string(seen.st_mtim.tv_nsec);
              return outcome;
            }};
  }
  std::string xattr_name() { return "user.x" + std::to_string(below(3)); }
  Operation set_xattr() {
    std::string path = name();
    std::string attribute = xattr_name();
    std::string value(static_cast<size_t>(below(50)), 'v');
    int flags = below(3);
    return {"setxattr " + path, [=](Side& side) {
              return outcome_of(lsetxattr(side.at(path).c_str(), attribute.c_str(), value.data(),
                                          value.size(), flags));
            }};
  }
  Operation get_xattr() {
    std::string path = name();
    std::string attribute = xattr_name();
    auto size = static_cast<size_t>(below(3) * 30);
    return {"getxattr " + path + " into " + std::to_string(size), [=](Side& side) {
              std::string value(size, '\0');
              ssize_t got = lgetxattr(side.at(path).c_str(), attribute.c_str(), value.data(), size);
              if (got > 0 && size > 0) value.resize(static_cast<size_t>(got));
              return outcome_of(got, value);
            }};
  }
  Operation remove_xattr() {
    std::string path = name();
    std::string attribute = xattr_name();
    return {"removexattr " + path, [=](Side& side) {
              return outcome_of(lremovexattr(side.at(path).c_str(), attribute.c_str()));
            }};
  }
  Operation allocate() {
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE};
    int slot = below(kOpenFiles);
    int mode = modes[below(4)];
    uint64_t where = offset();
    size_t size = length();
    return {"fallocate " + std::to_string(slot) + " mode " + std::to_string(mode) + " " +
                std::to_string(where) + "+" + std::to_string(size),
            [=](Side& side) {
              if (!is_regular(side.file(slot))) return Outcome{};
              return outcome_of(fallocate(side.file(slot), mode, static_cast<off_t>(where),
                                          static_cast<off_t>(size)));
            }};
  }
  Operation copy_range() {
    int from = below(kOpenFiles);
    int to = below(kOpenFiles);
    uint64_t in_offset = offset();
    uint64_t out_offset = offset();
    size_t size = length();
    return {
        "copy_file_range " + std::to_string(from) + " to " + std::to_string(to), [=](Side& side) {
          if (!is_regular(side.file(from)) || !is_regular(side.file(to))) return Outcome{};
          auto in = static_cast<off_t>(in_offset);
          auto out = static_cast<off_t>(out_offset);
          return outcome_of(copy_file_range(side.file(from), &in, side.file(to), &out, size, 0));
        }};
  }
  Operation make_node() {
    std::string path = name();
    mode_t type = below(2) == 0 ? S_IFIFO : S_IFSOCK;
    return {"mknod " + path,
            [=](Side& side) { return outcome_of(mknod(side.at(path).c_str(), type | 0640, 0)); }};
  }
  Operation look() {
    std::string path = name();
    return {"stat " + path, [=](Side& side) {
              struct stat seen;
              int result = ::stat(side.at(path).c_str(), &seen);
              std::string data;
              if (result == 0)
                data = std::to_string(seen.st_mode) + " " + std::to_string(seen.st_nlink) + " " +
                       (S_ISREG(seen.st_mode) ? std::to_string(seen.st_size) : "");
              return outcome_of(result, data);
            }};
  }
  Operation read_link() {
    std::string path = name();
    return {"readlink " + path, [=](Side& side) {
              char target[256];
              ssize_t size = readlink(side.at(path).c_str(), target, sizeof target);
              return outcome_of(size,
                                size < 0 ? "" : std::string(target, static_cast<size_t>(size)));
            }};
  }
  Operation list() {
    std::string path = below(2) == 0 ? "" : name();
    return {"list " + path, [=](Side& side) {
              DIR* stream = opendir(side.at(path).c_str());
              if (stream == nullptr) return outcome_of(-1);
              std::set<std::string> names;
              while (const dirent* item = readdir(stream))
                if (std::strcmp(item->d_name, ".walfs") != 0) names.insert(item->d_name);
              closedir(stream);
              std::string all;
              for (const std::string& one : names) all += one + " ";
              return outcome_of(0, all);
            }};
  }

  static bool is_regular(int fd) {
    struct stat seen;
    return fd >= 0 && fstat(fd, &seen) == 0 && S_ISREG(seen.st_mode);
  }

  std::mt19937_64 random_;
};

std::string content_digest(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return std::strerror(errno);
  uint64_t hash = 1469598103934665603ULL;
  std::vector<char> buffer(1 << 16);
  for (ssize_t got; (got = read(fd, buffer.data(), buffer.size())) > 0;)
    for (ssize_t i = 0; i < got; ++i)
      hash = (hash ^ static_cast<uint8_t>(buffer[static_cast<size_t>(i)])) * 1099511628211ULL;
  close(fd);
  return std::to_string(hash);
}

std::string xattrs_of(const std::string& path) {
  std::vector<char> names(4096);
  ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  std::set<std::string> all;
  for (ssize_t at = 0; at < size;) {
    std::string name = names.data() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    char value[256];
    ssize_t length = lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
    all.insert(name + "=" + std::string(value, length < 0 ? 0 : static_cast<size_t>(length)));
  }
  std::string text;
  for (const std::string& one : all) text += one + ",";
  return text;
}

// One line for each name below the root, sorted. Which names share an inode is told by the first of
// them.
std::map<std::string, std::string> tree_of(const std::string& root) {
  std::map<std::string, std::string> tree;
  std::map<ino_t, std::string> first_names;
  std::set<std::string> names;
  for (auto at = std::filesystem::recursive_directory_iterator(root);
       at != std::filesystem::recursive_directory_iterator(); ++at) {
    std::string name = at->path().string().substr(root.size());
    if (name == "/.walfs") {
      at.disable_recursion_pending();
    } else {
      names.insert(name);
    }
  }
  for (const std::string& name : names) {
    struct stat seen;
    const std::string path = root + name;
    if (lstat(path.c_str(), &seen) != 0) {
      tree[name] = std::strerror(errno);
      continue;
    }
    std::ostringstream line;
    line << std::oct << seen.st_mode << std::dec << " " << seen.st_uid << ":" << seen.st_gid
         << " links " << seen.st_nlink;
    if (S_ISREG(seen.st_mode)) line << " size " << seen.st_size << " " << content_digest(path);
    if (S_ISLNK(seen.st_mode)) line << " -> " << std::filesystem::read_symlink(path).string();
    auto [first, is_new] = first_names.try_emplace(seen.st_ino, name);
    if (!is_new) line << " same as " << first->second;
    line << " " << xattrs_of(path);
    tree[name] = line.str();
  }
  return tree;
}

// Empty if equal, else what differs.
std::string difference(const std::map<std::string, std::string>& plain,
                       const std::map<std::string, std::string>& mounted) {
  std::string text;
  for (const auto& [name, line] : plain) {
    auto found = mounted.find(name);
    if (found == mounted.end()) {
      text += name + ": missing in the mount\n";
    } else if (found->second != line) {
      text += name + ":\n  plain   " + line + "\n  mounted " + found->second + "\n";
    }
  }
  for (const auto& [name, line] : mounted)
    if (plain.count(name) == 0) text += name + ": only in the mount: " + line + "\n";
  return text;
}

long number_from_environment(const char* name, long fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtol(text, nullptr, 10) : fallback;
}

class Differential : public testing::TestWithParam<int> {};

TEST_P(Differential, TheMountBehavesLikeAPlainDirectory) {
  const auto seed = static_cast<uint64_t>(number_from_environment("WALFS_TEST_SEED", GetParam()));
  const long steps = number_from_environment("WALFS_TEST_STEPS", kSteps);
  SCOPED_TRACE("WALFS_TEST_SEED=" + std::to_string(seed));
  TemporaryDirectory plain_place;
  MountedDirectory mounted({}, Seconds(300));
  const std::string plain_root = plain_place.path() + "/plain";
  ASSERT_EQ(mkdir(plain_root.c_str(), 0755), 0);
  std::vector<std::string> history;
  auto recent = [&] {
    std::string text;
    for (size_t i = history.size() > 12 ? history.size() - 12 : 0; i < history.size(); ++i)
      text += history[i] + "\n";
    return text;
  };
  {
    Side plain(plain_root);
    Side mount(mounted.path());
    Generator generator(seed);
    long successes = 0;
    for (long step = 0; step < steps; ++step) {
      Operation operation = generator.next();
      Outcome expected = operation.run(plain);
      Outcome actual = operation.run(mount);
      successes += expected.result >= 0;
      history.push_back(std::to_string(step) + " " + operation.text + " = " + to_text(expected));
      ASSERT_EQ(actual, expected) << "mounted: " << to_text(actual) << "\n" << recent();
      if (step % kStepsBetweenTreeChecks != 0) continue;
      std::string differs = difference(tree_of(plain_root), tree_of(mounted.path()));
      ASSERT_EQ(differs, "") << recent();
    }
    EXPECT_GT(successes, steps / 3) << "operations that all fail compare nothing";
  }
  mounted.unmount();
  EXPECT_EQ(difference(tree_of(plain_root), tree_of(mounted.source())), "")
      << "the backing directory after the unmount";
}

INSTANTIATE_TEST_SUITE_P(Seeds, Differential, testing::Range(1, 13));

}  // namespace
}  // namespace walfs::test
