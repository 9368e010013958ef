// ls and cat: what a replica holds at some point, without restoring it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/json_output.h"
#include "fs/cli/replica_arguments.h"
#include "fs/cli/terminal.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/litestream/listing.h"
#include "replicator/restore.h"
#include "replicator/time.h"

namespace walfs {
namespace {

using nlohmann::json;

struct Look {
  std::unique_ptr<Store> store;
  RoutedPlan routed;
  std::vector<PlannedPath> paths;  // Without the directory itself.
  const PlannedFile& file(const PlannedPath& path) const { return routed.plan.files.at(path.id); }
};

Result<Look> look_into(const LookArguments& arguments) {
  Look look;
  WALFS_ASSIGN(const RestoreTarget target, parse_target(arguments.at));
  WALFS_ASSIGN(look.store, open_replica(arguments.url, arguments.credentials_file));
  WALFS_ASSIGN(const auto kind, litestream::recognise_replica(*look.store));
  if (kind == litestream::ReplicaKind::kLitestream) {
    return Error{Errc::kUsage, "the replica at " + look.store->describe() +
                                   " is one of Litestream, which holds a single database; walfs "
                                   "restore restores it"};
  }
  WALFS_ASSIGN(look.routed, make_restore_plan(*look.store, target));
  WALFS_ASSIGN(look.paths, plan_paths(look.routed.plan));
  std::erase_if(look.paths, [](const PlannedPath& path) { return path.path.empty(); });
  std::sort(look.paths.begin(), look.paths.end(),
            [](const PlannedPath& a, const PlannedPath& b) { return a.path < b.path; });
  return look;
}

// As it is in the plan: without slashes at its ends.
std::string clean(std::string path) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path.substr(std::min(path.find_first_not_of('/'), path.size()));
}

Error not_there(const Look& look, const std::string& path) {
  return Error{Errc::kNothingThere, "there is no " + path + " in the replica at " +
                                        look.store->describe() + " as of " +
                                        format_time(look.routed.plan.time_ns)};
}

const char* type_name(FileType type) {
  static constexpr const char* kNames[] = {"file",   "directory",        "symlink",     "fifo",
                                           "socket", "character device", "block device"};
  return kNames[static_cast<size_t>(type)];
}

// As ls(1) shows it.
std::string mode_text(const Attributes& attributes) {
  constexpr std::string_view kLetters = "rwxrwxrwx";
  std::string text(1, "-dlpscb"[static_cast<size_t>(attributes.type)]);
  for (size_t i = 0; i < kLetters.size(); ++i)
    text += (attributes.mode & (0400U >> i)) != 0 ? kLetters[i] : '-';
  const auto special = [&](unsigned bit, size_t at, char letter) {
    if ((attributes.mode & bit) == 0) return;
    text[at] = text[at] == 'x' ? letter : static_cast<char>(letter - 'a' + 'A');
  };
  special(04000, 3, 's');
  special(02000, 6, 's');
  special(01000, 9, 't');
  return text;
}

void print_line(const PlannedPath& path, const PlannedFile& file) {
  const Attributes& attributes = file.attributes;
  const std::string target =
      attributes.type == FileType::kSymlink ? " -> " + printable(attributes.symlink_target) : "";
  std::printf("%s %5u %5u %12llu  %s  %s%s%s\n", mode_text(attributes).c_str(), attributes.uid,
              attributes.gid, static_cast<unsigned long long>(file.size),
              format_time(attributes.mtime_ns).c_str(), printable(path.path).c_str(),
              target.c_str(), file.database ? "  (database)" : "");
}

json describe(const PlannedPath& path, const PlannedFile& file) {
  const Attributes& attributes = file.attributes;
  json entry = {{"path", path.path},
                {"type", type_name(attributes.type)},
                {"mode", attributes.mode},
                {"uid", attributes.uid},
                {"gid", attributes.gid},
                {"size", file.size},
                {"time", format_time(attributes.mtime_ns)},
                {"database", file.database}};
  if (attributes.type == FileType::kSymlink) entry["target"] = attributes.symlink_target;
  return entry;
}

// A private directory that is gone again, whatever happens, before anything is printed.
class Workplace {
 public:
  Status make() {
    std::error_code failed;
    const auto parent = std::filesystem::temp_directory_path(failed);
    if (failed) return Error{Errc::kIo, "TMPDIR is no directory: set it to one with some room"};
    path_ = (parent / "walfs-cat.XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr)
      return error_from_errno("cannot create a directory in " + parent.string(), errno);
    return {};
  }
  ~Workplace() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The file's content, proved, as a descriptor of a file that has no name any more.
Result<FileDescriptor> fetch(const Look& look, FileId id) {
  Workplace workplace;
  WALFS_TRY(workplace.make());
  const FileDescriptor directory(
      ::open(workplace.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return error_from_errno("cannot open " + workplace.path(), errno);
  RestoreOptions options;
  options.cancelled = catch_interrupts();
  const std::string name = "content";
  WALFS_TRY(restore_content(*look.store, look.routed, id, directory.get(), name, options));
  FileDescriptor content(::openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!content.valid()) return error_from_errno("cannot open what was fetched", errno);
  return content;
}

Status print_content(int fd) {
  Bytes buffer(size_t{1} << 20);
  while (true) {
    const ssize_t size = ::read(fd, buffer.data(), buffer.size());
    if (size < 0) return error_from_errno("cannot read what was fetched", errno);
    if (size == 0) break;
    if (std::fwrite(buffer.data(), 1, static_cast<size_t>(size), stdout) !=
        static_cast<size_t>(size))
      return error_from_errno("cannot write to the standard output", errno);
  }
  if (std::fflush(stdout) != 0)
    return error_from_errno("cannot write to the standard output", errno);
  return {};
}

}  // namespace

Status run_ls_command(const LookArguments& arguments) {
  WALFS_ASSIGN(const Look look, look_into(arguments));
  const std::string wanted = clean(arguments.path);
  json list = json::array();
  size_t found = 0;
  for (const PlannedPath& path : look.paths) {
    if (!wanted.empty() && path.path != wanted && !path.path.starts_with(wanted + "/")) continue;
    ++found;
    if (arguments.json) {
      list.push_back(describe(path, look.file(path)));
    } else {
      print_line(path, look.file(path));
    }
  }
  if (found == 0 && !wanted.empty()) return not_there(look, wanted);
  if (!arguments.json) return {};
  const json answer = {{"position", look.routed.plan.position.to_string()},
                       {"time", format_time(look.routed.plan.time_ns)},
                       {"files", std::move(list)}};
  print_json(answer);
  return {};
}

Status run_cat_command(const LookArguments& arguments) {
  WALFS_ASSIGN(const Look look, look_into(arguments));
  const std::string wanted = clean(arguments.path);
  const auto path = std::find_if(look.paths.begin(), look.paths.end(),
                                 [&](const PlannedPath& one) { return one.path == wanted; });
  if (path == look.paths.end()) return not_there(look, wanted);
  const FileType type = look.file(*path).attributes.type;
  if (type != FileType::kRegular) {
    return Error{Errc::kUsage,
                 wanted + " is a " + type_name(type) + " and has no content; name a regular file"};
  }
  WALFS_ASSIGN(const FileDescriptor content, fetch(look, path->id));
  return print_content(content.get());
}

}  // namespace walfs
