#include "replicator/litestream/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "replicator/base/database_header.h"
#include "replicator/base/file_io.h"
#include "replicator/litestream/ltx_writer.h"
#include "replicator/litestream/names.h"
#include "replicator/restore_jobs.h"
#include "replicator/restore_target.h"
#include "replicator/time.h"

namespace walfs::litestream {
namespace {

constexpr uint64_t kPagesMax = 0xfffffffe;  // That SQLite can have.
constexpr mode_t kDirectoryMode = 0700;
constexpr mode_t kFileMode = 0600;
constexpr LtxName kSnapshot = {kLtxSnapshotLevel, 1, 1};
constexpr LtxName kFirstOfWriter = {0, 1, 1};

// mkdir -p beneath the open directory, which nobody else writes to.
Result<FileDescriptor> make_directory(int root, const std::string& path) {
  FileDescriptor directory;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const int parent = directory.valid() ? directory.get() : root;
    if (::mkdirat(parent, name.c_str(), kDirectoryMode) != 0 && errno != EEXIST)
      return error_from_errno("cannot create the directory " + path, errno);
    FileDescriptor child(
        ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!child.valid()) return error_from_errno("cannot open the directory " + path, errno);
    directory = std::move(child);
    begin = end + 1;
  }
  return directory;
}

// Files stay as old as the state in them: Litestream takes their times for it.
Status set_time(int fd, int64_t time_ns, const std::string& name) {
  const struct timespec time = {time_ns / kNsPerSecond, time_ns % kNsPerSecond};
  const struct timespec times[2] = {time, time};
  if (::futimens(fd, times) == 0) return {};
  return error_from_errno("cannot set the time of " + name, errno);
}

// A database on its way: its content, proved, and the directory that becomes its replica.
struct Fetched {
  std::string path;
  FileDescriptor directory;
  FileDescriptor content;
  uint64_t size = 0;
  LtxHeader header;
};

class Exporter {
 public:
  // `root` is the open directory of the export. All outlive the exporter.
  Exporter(Store& store, const RoutedPlan& routed, int root, const RestoreOptions& options)
      : store_(store), routed_(routed), root_(root), options_(options) {}

  // Makes the replica of one database.
  Status add(const PlannedPath& path) {
    WALFS_ASSIGN(const Fetched fetched, fetch(path));
    WALFS_TRY(write(fetched, kSnapshot));
    const int directory = fetched.directory.get();
    WALFS_ASSIGN(const FileDescriptor level,
                 make_directory(directory, ltx_level_text(kFirstOfWriter.level)));
    const std::string from = ltx_name_text(kSnapshot);
    const std::string to = ltx_name_text(kFirstOfWriter);
    if (::linkat(directory, from.c_str(), directory, to.c_str(), 0) == 0) return {};
    // Not every filesystem has hard links.
    return write(fetched, kFirstOfWriter);
  }

 private:
  // No database lies beneath another, so that the directory of one has no names but ours.
  Result<Fetched> fetch(const PlannedPath& path) {
    const PlannedFile& file = routed_.plan.files.at(path.id);
    const std::string name = "content";
    Fetched fetched;
    fetched.path = path.path;
    fetched.size = file.size;
    WALFS_ASSIGN(fetched.directory, make_directory(root_, path.path));
    const int directory = fetched.directory.get();
    WALFS_TRY(restore_content(store_, routed_, path.id, directory, name, options_));
    fetched.content =
        FileDescriptor(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fetched.content.valid() || ::unlinkat(directory, name.c_str(), 0) != 0)
      return error_from_errno("cannot open what was fetched of " + path.path, errno);
    WALFS_TRY(make_header(file.block_size, fetched));
    return fetched;
  }

  // Where the content has no header that we understand, its blocks are its pages.
  Status make_header(uint32_t block_size, Fetched& fetched) const {
    WALFS_ASSIGN(const Bytes first,
                 read_at(fetched.content.get(), 0, kDatabaseHeaderSize, fetched.path));
    const auto database = parse_database_header(first);
    LtxHeader& header = fetched.header;
    header.page_size = database ? database->page_size : block_size;
    const uint64_t pages =
        is_page_size(header.page_size) ? (fetched.size - 1) / header.page_size + 1 : 0;
    if (pages == 0 || pages > kPagesMax) {
      return Error{Errc::kUnsupported,
                   fetched.path + " has no pages as SQLite has them; Litestream cannot hold it"};
    }
    header.pages = static_cast<uint32_t>(pages);
    header.first = kSnapshot.first;
    header.last = kSnapshot.last;
    header.time_ns = std::max<int64_t>(0, routed_.plan.time_ns / kNsPerMs * kNsPerMs);
    return {};
  }

  Status write(const Fetched& fetched, const LtxName& ltx) const {
    const int directory = fetched.directory.get();
    WALFS_ASSIGN(const FileDescriptor level, make_directory(directory, ltx_level_text(ltx.level)));
    const std::string key = ltx_name_text(ltx);
    const std::string name = fetched.path + "/" + key;
    FileDescriptor file(
        ::openat(directory, key.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
    if (!file.valid()) return error_from_errno("cannot create " + name, errno);
    WALFS_ASSIGN(LtxWriter writer,
                 LtxWriter::begin(std::move(file), name, directory, fetched.header));
    for (uint64_t at = 0; at < fetched.size; at += kIoSize) {
      WALFS_TRY(check_cancelled(options_));
      const size_t size = std::min<uint64_t>(kIoSize, fetched.size - at);
      WALFS_ASSIGN(Bytes pages, read_at(fetched.content.get(), at, size, fetched.path));
      WALFS_TRY(write_pages(std::move(pages), at, fetched.header.page_size, writer));
    }
    WALFS_TRY(writer.finish());
    return set_time(writer.fd(), fetched.header.time_ns, name);
  }

  // A last page that is not whole counts as filled up with zeros, as it does for SQLite.
  static Status write_pages(Bytes pages, uint64_t offset, uint32_t page_size, LtxWriter& writer) {
    pages.resize((pages.size() + page_size - 1) / page_size * page_size);
    for (size_t at = 0; at < pages.size(); at += page_size) {
      const auto page = static_cast<uint32_t>((offset + at) / page_size + 1);
      if (page == lock_page(page_size)) continue;
      WALFS_TRY(writer.add_page(page, ByteView(pages).subspan(at, page_size)));
    }
    return {};
  }

  Store& store_;
  const RoutedPlan& routed_;
  const int root_;
  const RestoreOptions& options_;
};

bool has_content(const PlannedFile& file) {
  return file.attributes.type == FileType::kRegular && file.size > 0;
}

// A replica has the journal of a database only where it is hot, and then the database as it was in
// the middle of the transaction.
Status check_journals(const std::vector<PlannedPath>& all,
                      const std::vector<PlannedPath>& databases, const RestorePlan& plan) {
  std::set<std::string> names;
  for (const PlannedPath& path : all) {
    if (has_content(plan.files.at(path.id))) names.insert(path.path);
  }
  for (const PlannedPath& database : databases) {
    if (!names.contains(database.path + "-journal")) continue;
    return Error{Errc::kUnsupported,
                 database.path +
                     " has a journal to roll back as of then, which Litestream cannot hold; export "
                     "a point after it was opened again, or name the others with --only"};
  }
  return {};
}

// The databases of what was selected; the others are counted.
Result<std::vector<PlannedPath>> choose(const Store& store, const RestorePlan& plan,
                                        const RestoreOptions& options, uint64_t& others) {
  WALFS_ASSIGN(const std::vector<PlannedPath> all, plan_paths(plan));
  std::vector<PlannedPath> databases = select_paths(all, options.only);
  std::erase_if(databases, [&](const PlannedPath& path) {
    const PlannedFile& file = plan.files.at(path.id);
    if (file.database && has_content(file)) return false;
    others += file.attributes.type == FileType::kDirectory ? 0 : 1;
    return true;
  });
  WALFS_TRY(check_journals(all, databases, plan));
  if (!databases.empty()) return databases;
  return Error{Errc::kNothingThere,
               (options.only.empty() ? "there is no database in the replica at "
                                     : "--only names no database in the replica at ") +
                   store.describe() + " as of " + format_time(plan.time_ns)};
}

}  // namespace

Result<ExportReport> export_databases(Store& store, const std::string& directory,
                                      const RestoreOptions& options) {
  WALFS_ASSIGN(RestoreDirectory target,
               RestoreDirectory::open(directory, false, store, kExporting));
  WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store, options.target));
  ExportReport report;
  report.position = routed.plan.position;
  report.time_ns = routed.plan.time_ns;
  report.directory = target.path();
  WALFS_ASSIGN(const std::vector<PlannedPath> databases,
               choose(store, routed.plan, options, report.other_files));
  WALFS_TRY(target.begin());
  WALFS_TRY(target.remove_earlier_content());
  RestoreProgress progress;
  for (const PlannedPath& path : databases)
    progress.bytes_total += routed.plan.files.at(path.id).size;
  RestoreOptions one_by_one = options;
  one_by_one.progress = [&](const RestoreProgress& one) {
    if (options.progress)
      options.progress({progress.bytes_done + one.bytes_done, progress.bytes_total});
  };
  Exporter exporter(store, routed, target.fd(), one_by_one);
  for (const PlannedPath& path : databases) {
    WALFS_TRY(exporter.add(path));
    report.databases.push_back({path.path, routed.plan.files.at(path.id).size});
    progress.bytes_done += report.databases.back().bytes;
    one_by_one.progress({});
  }
  if (::syncfs(target.fd()) != 0) return error_from_errno("cannot flush the exported files", errno);
  WALFS_TRY(target.commit());
  return report;
}

}  // namespace walfs::litestream
