#include "replicator/restore.h"

#include <fnmatch.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "replicator/restore_files.h"
#include "replicator/restore_target.h"

namespace walfs {
namespace {

// What is to be done with one frame of a segment, or one chunk: the blocks that it gives.
struct Piece {
  FileId id = kNoFile;
  uint64_t block = 0;
  uint32_t offset = 0;  // In the decoded bytes.
  uint32_t size = 0;
  std::optional<uint64_t> hash;
};

struct Job {
  bool is_chunk = false;
  uint32_t segment = 0;
  uint32_t object = 0;  // The frame of the segment, or the chunk.
  std::vector<Piece> pieces;
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Piece& piece : pieces) sum += piece.size;
    return sum;
  }
};

bool matches(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

void add_log_blocks(FileId id, const PlannedFile& file,
                    std::map<std::pair<uint32_t, uint32_t>, Job>& frames) {
  for (const auto& [block, place] : file.blocks) {
    if (place.hash == kZeroBlockHash) continue;
    Job& job = frames[{place.segment, place.frame}];
    job.segment = place.segment;
    job.object = place.frame;
    job.pieces.push_back({id, block, place.offset, place.size, place.hash});
  }
}

void add_chunk_blocks(FileId id, const PlannedFile& file, std::map<uint32_t, Job>& chunks) {
  for (const Extent& extent : file.extents) {
    for (uint64_t done = 0; done < extent.size; done += file.block_size) {
      const uint64_t offset = extent.file_offset + done;
      const uint64_t block = offset / file.block_size;
      if (offset >= file.size || block >= file.base_limit || file.blocks.contains(block)) continue;
      Job& job = chunks[extent.chunk];
      job.is_chunk = true;
      job.object = extent.chunk;
      const uint64_t size =
          std::min({uint64_t{file.block_size}, extent.size - done, file.size - offset});
      job.pieces.push_back({id, block, static_cast<uint32_t>(extent.chunk_offset + done),
                            static_cast<uint32_t>(size), std::nullopt});
    }
  }
}

std::vector<Job> make_jobs(const RestorePlan& plan, const RestoredTree& tree) {
  std::map<std::pair<uint32_t, uint32_t>, Job> frames;
  std::map<uint32_t, Job> chunks;
  for (const auto& [id, file] : plan.files) {
    if (!tree.wants(id) || file.block_size == 0) continue;
    add_log_blocks(id, file, frames);
    add_chunk_blocks(id, file, chunks);
  }
  std::vector<Job> jobs;
  jobs.reserve(chunks.size() + frames.size());
  for (auto& [key, job] : chunks) jobs.push_back(std::move(job));
  for (auto& [key, job] : frames) jobs.push_back(std::move(job));
  return jobs;
}

class Worker {
 public:
  Worker(Store& store, const RoutedPlan& routed, RestoredTree& tree, const RestoreOptions& options)
      : store_(store), routed_(routed), tree_(tree), options_(options) {}

  Status run(const std::vector<Job>& jobs) {
    for (const Job& job : jobs) progress_.bytes_total += job.bytes();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1U, options_.threads); ++i) {
      threads.emplace_back([&] { work(jobs); });
    }
    for (std::thread& thread : threads) thread.join();
    return failure_;
  }

 private:
  void work(const std::vector<Job>& jobs) {
    for (size_t i = next_++; i < jobs.size(); i = next_++) {
      Status done = check_cancelled(options_);
      if (done.ok()) done = do_job(jobs[i]);
      const std::scoped_lock lock(mutex_);
      if (!done.ok()) {
        if (failure_.ok()) failure_ = done;
        next_ = jobs.size();
        return;
      }
      progress_.bytes_done += jobs[i].bytes();
      if (options_.progress) options_.progress(progress_);
    }
  }

  Result<Bytes> fetch(const Job& job) {
    if (job.is_chunk) {
      const ChunkRef& chunk = routed_.plan.chunks[job.object];
      const std::string key = chunk_key(chunk.digest);
      WALFS_ASSIGN(const Bytes object, store_.get(key, kChunkSizeMax * 2));
      return decode_chunk(key, chunk, object);
    }
    const auto& frame = routed_.indexes[job.segment].frames[job.object];
    const StoredObject& segment = routed_.route.segments[job.segment];
    const std::string key = segment_key(segment.range, segment.level);
    WALFS_ASSIGN(const Bytes stored, store_.get_range(key, {frame.offset, frame.stored_size}));
    return decode_frame(key, frame, stored);
  }

  Status do_job(const Job& job) {
    WALFS_ASSIGN(const Bytes content, fetch(job));
    for (const Piece& piece : job.pieces) {
      if (uint64_t{piece.offset} + piece.size > content.size()) {
        return Error{Errc::kDamaged, "the replica is damaged: a block lies outside of its object"};
      }
      WALFS_TRY(tree_.write_block(piece.id, piece.block,
                                  ByteView(content).subspan(piece.offset, piece.size), piece.hash));
    }
    return {};
  }

  Store& store_;
  const RoutedPlan& routed_;
  RestoredTree& tree_;
  const RestoreOptions& options_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  RestoreProgress progress_;
  Status failure_;
};

// The newest route that reaches back far enough; `listing` has at least one.
Result<RoutedPlan> plan_route(Store& store, const Route& route, const RestoreTarget& target) {
  RoutedPlan routed;
  routed.route = route;
  WALFS_ASSIGN(Snapshot snapshot, load_snapshot(store, route.snapshot));
  PlanBuilder builder(std::move(snapshot), target);
  for (const StoredObject& segment : route.segments) {
    if (builder.complete() || (target.position && segment.range.first > *target.position)) break;
    WALFS_ASSIGN(SegmentIndex index, load_segment_index(store, segment));
    builder.add(index);
    for (Point& point : index.points) point.changes.clear();  // The plan has taken what it needs.
    routed.indexes.push_back(std::move(index));
  }
  WALFS_ASSIGN(routed.plan, builder.finish());
  return routed;
}

}  // namespace

Status check_cancelled(const RestoreOptions& options) {
  if (options.cancelled == nullptr || !*options.cancelled) return {};
  return Error{Errc::kCancelled, "interrupted; nothing was changed"};
}

Result<RoutedPlan> make_restore_plan(Store& store, const RestoreTarget& target) {
  WALFS_ASSIGN(const ReplicaListing listing, list_replica(store));
  const std::vector<Route> routes = find_routes(listing);
  if (routes.empty()) {
    return Error{Errc::kNothingThere, "the replica at " + store.describe() +
                                          " is not complete yet: its first upload has not ended"};
  }
  for (size_t i = routes.size(); i-- > 0;) {
    auto routed = plan_route(store, routes[i], target);
    if (routed.ok() || routed.error().code != Errc::kNothingThere || i == 0) return routed;
  }
  return Error{Errc::kNothingThere, "nothing to restore"};
}

std::vector<PlannedPath> select_paths(std::vector<PlannedPath> paths,
                                      const std::vector<std::string>& only) {
  if (only.empty()) return paths;
  std::map<std::string, bool> wanted;
  for (const PlannedPath& path : paths) {
    if (path.path.empty()) continue;
    const size_t slash = path.path.rfind('/');
    const bool parent = slash != std::string::npos && wanted[path.path.substr(0, slash)];
    wanted[path.path] = parent || matches(only, path.path);
  }
  std::map<std::string, bool> kept;
  for (const auto& [path, is_wanted] : wanted) {
    if (!is_wanted) continue;
    for (size_t end = path.size(); end != std::string::npos; end = path.rfind('/', end - 1)) {
      kept[path.substr(0, end)] = true;
      if (end == 0) break;
    }
  }
  std::erase_if(paths, [&](const PlannedPath& path) {
    return !path.path.empty() && !kept.contains(path.path);
  });
  return paths;
}

Status restore_content(Store& store, const RoutedPlan& routed, FileId id, int directory,
                       const std::string& name, const RestoreOptions& options) {
  const std::vector<PlannedPath> paths = {{name, id}};
  RestoredTree tree(directory, routed.plan, paths);
  WALFS_TRY(tree.create());
  Worker worker(store, routed, tree, options);
  WALFS_TRY(worker.run(make_jobs(routed.plan, tree)));
  return tree.verify();
}

Result<RestoreReport> restore(Store& store, const std::string& directory,
                              const RestoreOptions& options) {
  WALFS_ASSIGN(RestoreDirectory target, RestoreDirectory::open(directory, options.force));
  WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store, options.target));
  WALFS_ASSIGN(std::vector<PlannedPath> all, plan_paths(routed.plan));
  const std::vector<PlannedPath> paths = select_paths(std::move(all), options.only);
  if (!options.only.empty() && paths.size() == 1) {
    return Error{Errc::kNothingThere, "no file in the replica matches what --only names"};
  }
  WALFS_TRY(target.begin());
  RestoredTree tree(target.fd(), routed.plan, paths);
  WALFS_TRY(tree.create());
  Worker worker(store, routed, tree, options);
  WALFS_TRY(worker.run(make_jobs(routed.plan, tree)));
  WALFS_TRY(tree.verify());
  WALFS_TRY(tree.finish());
  WALFS_TRY(target.commit());
  RestoreReport report;
  report.position = routed.plan.position;
  report.time_ns = routed.plan.time_ns;
  for (const auto& [id, file] : routed.plan.files) {
    if (!tree.wants(id)) continue;
    ++report.files;
    report.databases += file.database ? 1 : 0;
    report.bytes += file.size;
  }
  return report;
}

}  // namespace walfs
