#include "tests/e2e/round_trip_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>

namespace walfs::test {
namespace {

constexpr size_t kHeldMax = 5;

void write_at(int fd, const std::string& data, off_t offset) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n =
        pwrite(fd, data.data() + done, data.size() - done, offset + static_cast<off_t>(done));
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

}  // namespace

// Few names, so that operations meet; some look like companions of a database that is not there.
std::string FileWork::name() {
  static const char* const directories[] = {"", "", "", "d1/", "d1/", "d2/", "d1/d3/"};
  static const char* const names[] = {
      "a", "b", "c", "e", "f", "g", "d1", "d2", "d3", "notes", "notes-journal", "x-wal", "y-shm"};
  return std::string(directories[below(7)]) + names[below(13)];
}

std::string FileWork::bytes() {
  static const size_t sizes[] = {1, 100, 4096, 5000, 20000, 100000};
  std::string data(sizes[below(6)] + static_cast<size_t>(below(50)), '\0');
  if (below(5) == 0) return data;  // Zeros.
  for (char& c : data) c = static_cast<char>(random_());
  return data;
}

void FileWork::step() {
  using Action = void (FileWork::*)();
  static const std::vector<std::pair<int, Action>> actions = {
      {8, &FileWork::create},      {8, &FileWork::write},          {5, &FileWork::append},
      {5, &FileWork::truncate},    {7, &FileWork::rename},         {4, &FileWork::link},
      {3, &FileWork::symlink},     {4, &FileWork::make_directory}, {2, &FileWork::remove_directory},
      {3, &FileWork::change_mode}, {3, &FileWork::change_owner},   {3, &FileWork::change_xattr},
      {3, &FileWork::set_times},   {3, &FileWork::punch},          {2, &FileWork::make_fifo},
      {5, &FileWork::unlink},      {4, &FileWork::hold},           {2, &FileWork::make_nameless},
  };
  std::error_code ignored;
  std::filesystem::create_directory(root_, ignored);
  int total = 0;
  for (const auto& action : actions) total += action.first;
  int choice = below(total);
  for (const auto& [weight, action] : actions) {
    if (choice < weight) return (this->*action)();
    choice -= weight;
  }
}

void FileWork::close_all() {
  for (const int fd : held_) close(fd);
  held_.clear();
}

void FileWork::create() {
  const std::string path = name();
  say_("create file " + path);
  const int flags = O_CREAT | O_WRONLY | O_NONBLOCK | O_CLOEXEC | (below(3) == 0 ? O_TRUNC : 0);
  const int fd = open(at(path).c_str(), flags, below(2) == 0 ? 0644 : 0600);
  const std::string data = bytes();
  if (fd < 0) return;
  if (below(4) != 0) write_at(fd, data, 0);
  close(fd);
}

void FileWork::write() {
  const std::string path = name();
  const off_t offset = below(200000);
  say_("write " + path + " at " + std::to_string(offset));
  const std::string data = bytes();
  const int fd = open(at(path).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  write_at(fd, data, offset);
  if (below(4) == 0) fsync(fd);
  close(fd);
}

void FileWork::append() {
  const std::string path = name();
  say_("append to " + path);
  const std::string data = bytes();
  const int fd = open(at(path).c_str(), O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  if (::write(fd, data.data(), data.size()) < 0) say_("  which failed");
  close(fd);
}

void FileWork::truncate() {
  const std::string path = name();
  const off_t size = below(3) == 0 ? below(300000) : below(30000);
  say_("truncate " + path + " to " + std::to_string(size));
  if (::truncate(at(path).c_str(), size) != 0) say_("  which failed");
}

void FileWork::rename() {
  const std::string from = name();
  const std::string to = name();
  const unsigned flags = below(8) == 0 ? RENAME_EXCHANGE : 0U;
  say_("rename " + from + " to " + to + (flags != 0 ? " (exchange)" : ""));
  if (renameat2(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(), flags) != 0)
    say_("  which failed");
}

void FileWork::link() {
  const std::string from = name();
  const std::string to = name();
  say_("link " + from + " as " + to);
  if (::link(at(from).c_str(), at(to).c_str()) != 0) say_("  which failed");
}

void FileWork::symlink() {
  const std::string target = below(2) == 0 ? name() : "/nowhere/" + name();
  const std::string path = name();
  say_("symlink " + path);
  if (::symlink(target.c_str(), at(path).c_str()) != 0) say_("  which failed");
}

void FileWork::make_directory() {
  const std::string path = name();
  say_("mkdir " + path);
  mkdir(at(path).c_str(), below(2) == 0 ? 0755 : 0700);
}

void FileWork::remove_directory() {
  const std::string path = name();
  say_("rmdir " + path);
  rmdir(at(path).c_str());
}

void FileWork::change_mode() {
  static const mode_t modes[] = {0644, 0600, 0755, 04755, 0444, 01777};
  const std::string path = name();
  say_("chmod " + path);
  chmod(at(path).c_str(), modes[below(6)]);
}

void FileWork::change_owner() {
  const std::string path = name();
  say_("chown " + path);
  const auto uid = static_cast<uid_t>(1000 + below(3));
  if (lchown(at(path).c_str(), uid, static_cast<gid_t>(below(3))) != 0) say_("  which failed");
}

void FileWork::change_xattr() {
  const std::string path = name();
  const std::string key = below(2) == 0 ? "user.one" : "user.two";
  say_("xattr " + key + " of " + path);
  const std::string value(static_cast<size_t>(below(200)), 'x');
  if (below(3) == 0) {
    lremovexattr(at(path).c_str(), key.c_str());
  } else {
    lsetxattr(at(path).c_str(), key.c_str(), value.data(), value.size(), 0);
  }
}

void FileWork::set_times() {
  const std::string path = name();
  say_("utimens " + path);
  const timespec time = {1000000000 + below(700000000), below(1000000000)};
  const timespec times[2] = {time, time};
  utimensat(AT_FDCWD, at(path).c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void FileWork::punch() {
  static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_ZERO_RANGE};
  const std::string path = name();
  say_("fallocate " + path);
  const int mode = modes[below(3)];
  const off_t offset = below(100000);
  const off_t size = 1 + below(60000);
  const int fd = open(at(path).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  fallocate(fd, mode, offset, size);
  close(fd);
}

void FileWork::make_fifo() {
  const std::string path = name();
  say_("mkfifo " + path);
  mkfifo(at(path).c_str(), 0640);
}

void FileWork::unlink() {
  const std::string path = name();
  say_("unlink " + path);
  ::unlink(at(path).c_str());
}

// Files that stay open, are written to and perhaps unlinked meanwhile.
void FileWork::hold() {
  if (held_.size() >= kHeldMax || (!held_.empty() && below(3) == 0)) {
    const size_t slot = random_() % held_.size();
    say_("write a held file");
    write_at(held_[slot], bytes(), below(100000));
    if (below(2) == 0) {
      close(held_[slot]);
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(slot));
    }
    return;
  }
  const std::string path = name();
  say_("hold " + path);
  const int fd = open(at(path).c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
  const std::string data = bytes();
  const off_t offset = below(1000);
  const bool unlink_it = below(3) == 0;
  if (fd < 0) return;
  struct stat attributes {};
  if (fstat(fd, &attributes) != 0 || !S_ISREG(attributes.st_mode)) {
    close(fd);
    return;
  }
  write_at(fd, data, offset);
  if (unlink_it) ::unlink(at(path).c_str());
  held_.push_back(fd);
}

// A file that gets its name only when it is complete.
void FileWork::make_nameless() {
  const std::string path = name();
  say_("O_TMPFILE as " + path);
  const std::string data = bytes();
  const int fd = open(root_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return;
  write_at(fd, data, 0);
  const std::string alias = "/proc/self/fd/" + std::to_string(fd);
  if (linkat(AT_FDCWD, alias.c_str(), AT_FDCWD, at(path).c_str(), AT_SYMLINK_FOLLOW) != 0)
    say_("  which failed");
  close(fd);
}

}  // namespace walfs::test
