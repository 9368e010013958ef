#include "replicator/restore.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "replicator/restore_files.h"
#include "replicator/restore_jobs.h"
#include "replicator/restore_leftovers.h"
#include "replicator/restore_proofs.h"
#include "replicator/restore_target.h"

namespace walfs {
namespace {

// That this block is there with this hash; a sum of these is for all blocks of an object. A block
// of zeros counts, too, so that no other set of blocks has the same sum.
uint64_t proof_of(const Piece& piece, uint64_t hash) {
  ByteWriter writer;
  writer.u64(piece.id);
  writer.u64(piece.block);
  writer.u64(hash);
  return stored_hash(writer.data());
}

class Worker {
 public:
  Worker(Store& store, const RoutedPlan& routed, RestoredTree& tree, const RestoreOptions& options)
      : store_(store), routed_(routed), tree_(tree), options_(options) {}

  // What an earlier restore has left is looked at before anything is fetched, and what is fetched
  // is noted.
  void go_on(RestoreProofs& proofs, bool has_earlier_content) {
    proofs_ = &proofs;
    has_earlier_content_ = has_earlier_content;
  }

  Status run(const JobList& jobs) {
    for (const Job& job : jobs.jobs()) progress_.bytes_total += job.bytes;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1U, options_.threads); ++i) {
      threads.emplace_back([&] { work(jobs); });
    }
    for (std::thread& thread : threads) thread.join();
    return failure_;
  }
  uint64_t bytes_fetched() const { return bytes_fetched_; }

 private:
  void work(const JobList& list) {
    const std::vector<Job>& jobs = list.jobs();
    for (size_t i = next_++; i < jobs.size(); i = next_++) {
      Status done = check_cancelled(options_);
      if (done.ok()) done = do_job(jobs[i], list.pieces(jobs[i]));
      const std::scoped_lock lock(mutex_);
      if (!done.ok()) {
        if (failure_.ok()) failure_ = done;
        next_ = jobs.size();
        return;
      }
      progress_.bytes_done += jobs[i].bytes;
      if (options_.progress) options_.progress(progress_);
    }
  }

  Result<Bytes> fetch(const Job& job) {
    if (job.is_chunk) return load_chunk(store_, routed_.plan.chunks[job.object]);
    return load_frame(store_, routed_.route.segments[job.segment],
                      routed_.indexes[job.segment].frames[job.object]);
  }

  // Whether an earlier restore has written what the object gives; then it counts as done.
  Result<bool> is_there(const Job& job, const std::vector<Piece>& pieces) {
    if (!has_earlier_content_) return false;
    std::vector<uint64_t> hashes;
    uint64_t proof = 0;
    for (const Piece& piece : pieces) {
      WALFS_ASSIGN(const uint64_t hash, tree_.hash_of_block(piece.id, piece.block));
      if (piece.hash && hash != *piece.hash) return false;
      hashes.push_back(hash);
      proof += proof_of(piece, hash);
    }
    if (job.is_chunk && proofs_->find(routed_.plan.chunks[job.object].digest) != proof)
      return false;
    for (size_t i = 0; i < hashes.size(); ++i) tree_.count_block(pieces[i].id, hashes[i]);
    return true;
  }

  Status do_job(const Job& job, const std::vector<Piece>& pieces) {
    WALFS_ASSIGN(const bool there, is_there(job, pieces));
    if (there) return {};
    WALFS_ASSIGN(const Bytes content, fetch(job));
    RestoredTree::Writer writer(tree_);
    uint64_t proof = 0;
    for (const Piece& piece : pieces) {
      if (uint64_t{piece.offset} + piece.size > content.size()) {
        return Error{Errc::kDamaged, "the replica is damaged: a block lies outside of its object"};
      }
      WALFS_ASSIGN(const uint64_t hash,
                   writer.add(piece.id, piece.block,
                              ByteView(content).subspan(piece.offset, piece.size), piece.hash));
      proof += proof_of(piece, hash);
    }
    WALFS_TRY(writer.flush());
    bytes_fetched_ += job.bytes;
    if (job.is_chunk && proofs_ != nullptr)
      proofs_->add(routed_.plan.chunks[job.object].digest, proof);
    return {};
  }

  Store& store_;
  const RoutedPlan& routed_;
  RestoredTree& tree_;
  RestoreProofs* proofs_ = nullptr;
  bool has_earlier_content_ = false;
  const RestoreOptions& options_;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> bytes_fetched_{0};
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
  WALFS_ASSIGN(const std::vector<Route> routes, usable_routes(store, listing));
  for (size_t i = routes.size(); i-- > 0;) {
    auto routed = plan_route(store, routes[i], target);
    if (routed.ok() || routed.error().code != Errc::kNothingThere || i == 0) return routed;
  }
  return Error{Errc::kNothingThere, "nothing to restore"};
}

Status restore_content(Store& store, const RoutedPlan& routed, FileId id, int directory,
                       const std::string& name, const RestoreOptions& options) {
  const std::vector<PlannedPath> paths = {{name, id}};
  RestoredTree tree(directory, routed.plan, paths);
  WALFS_TRY(tree.create());
  Worker worker(store, routed, tree, options);
  WALFS_TRY(worker.run(JobList(routed.plan, [&](FileId one) { return one == id; })));
  return tree.verify();
}

namespace {

RestoreReport report_on(const RestorePlan& plan, const std::vector<PlannedPath>& paths) {
  RestoreReport report;
  report.position = plan.position;
  report.time_ns = plan.time_ns;
  std::set<FileId> seen;
  for (const PlannedPath& path : paths) {
    const PlannedFile& file = plan.files.at(path.id);
    if (file.attributes.type != FileType::kRegular || !seen.insert(path.id).second) continue;
    ++report.files;
    report.databases += file.database ? 1 : 0;
    report.bytes += file.size;
  }
  return report;
}

Result<std::vector<PlannedPath>> wanted_paths(const RestorePlan& plan,
                                              const std::vector<std::string>& only) {
  WALFS_ASSIGN(std::vector<PlannedPath> all, plan_paths(plan));
  std::vector<PlannedPath> paths = select_paths(std::move(all), only);
  if (!only.empty() && paths.size() == 1) {
    return Error{Errc::kNothingThere, "no file in the replica matches what --only names"};
  }
  return paths;
}

// Whether the same restore may well succeed another time.
bool may_go_on(Errc code) {
  return code != Errc::kDamaged && code != Errc::kNothingThere && code != Errc::kNoSpace;
}

Error kept(const Error& error, RestoreDirectory& target) {
  return {error.code,
          error.message + "; the same command goes on from here, with what is in " + target.keep()};
}

Status fill(RestoreDirectory& target, Store& store, const RoutedPlan& routed,
            const std::vector<PlannedPath>& paths, const RestoreOptions& options,
            bool& has_content) {
  WALFS_TRY(keep_what_is_planned(target.files_path(), routed.plan, paths));
  RestoredTree tree(target.fd(), routed.plan, paths);
  WALFS_TRY(tree.create());
  WALFS_ASSIGN(FileDescriptor file, target.open_proofs());
  RestoreProofs proofs(std::move(file));
  Worker worker(store, routed, tree, options);
  worker.go_on(proofs, has_content);
  const Status fetched =
      worker.run(JobList(routed.plan, [&](FileId id) { return tree.wants(id); }));
  has_content = has_content || worker.bytes_fetched() != 0;
  if (!fetched.ok()) return fetched.error();
  WALFS_TRY(tree.verify());
  return tree.finish();
}

}  // namespace

Result<RestorePreview> preview_restore(Store& store, const std::string& directory,
                                       const RestoreOptions& options) {
  WALFS_TRY(RestoreDirectory::open(directory, options.force, store));
  WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store, options.target));
  WALFS_ASSIGN(const std::vector<PlannedPath> paths, wanted_paths(routed.plan, options.only));
  std::set<FileId> wanted;
  for (const PlannedPath& path : paths) wanted.insert(path.id);
  RestorePreview preview;
  preview.report = report_on(routed.plan, paths);
  const JobList list(routed.plan, [&](FileId id) { return wanted.contains(id); });
  for (const Job& job : list.jobs()) {
    ++preview.fetches;
    preview.bytes_max += job.is_chunk ? routed.plan.chunks[job.object].size
                                      : routed.indexes[job.segment].frames[job.object].stored_size;
  }
  return preview;
}

// An object that is missing may have been replaced by a longer one since the plan was made.
Result<RestoreReport> restore(Store& store, const std::string& directory,
                              const RestoreOptions& options) {
  constexpr int kPlansMax = 3;
  WALFS_ASSIGN(RestoreDirectory target, RestoreDirectory::open(directory, options.force, store));
  bool has_content = false;
  for (int plans = 1;; ++plans) {
    WALFS_ASSIGN(const RoutedPlan routed, make_restore_plan(store, options.target));
    WALFS_ASSIGN(const std::vector<PlannedPath> paths, wanted_paths(routed.plan, options.only));
    if (plans == 1) {
      WALFS_TRY(target.begin());
      has_content = target.has_earlier_content();
    }
    Status done = fill(target, store, routed, paths, options, has_content);
    if (!done.ok() && done.error().code == Errc::kNothingThere && plans < kPlansMax) continue;
    if (done.ok()) done = target.commit();
    if (done.ok()) return report_on(routed.plan, paths);
    if (has_content && may_go_on(done.error().code)) return kept(done.error(), target);
    return done.error();
  }
}

}  // namespace walfs
