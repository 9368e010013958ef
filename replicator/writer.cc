#include "replicator/writer.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/file_descriptor.h"
#include "replicator/claims.h"
#include "replicator/keys.h"
#include "replicator/log.h"
#include "replicator/replica.h"
#include "replicator/segment.h"
#include "replicator/time.h"

namespace walfs {
namespace {

// What the store says about who writes there.
struct Found {
  bool reachable = false;
  std::string volume;  // "" if there is no replica yet.
  std::optional<Epoch> newest;
};

Result<Found> look_at_store(Store& store, bool must_reach) {
  Found found;
  auto volume = read_volume(store);
  if (!volume.ok() && volume.error().code != Errc::kNothingThere) {
    if (must_reach) return volume.error();
    spdlog::warn("starting without the store: {}", volume.error().message);
    return found;
  }
  if (volume.ok()) {
    auto newest = read_newest_epoch(store);
    if (!newest.ok()) {
      if (must_reach) return newest.error();
      spdlog::warn("starting without the store: {}", newest.error().message);
      return found;
    }
    found.volume = *volume;
    found.newest = *std::move(newest);
  }
  found.reachable = true;
  return found;
}

// Whether every checksum in a spooled segment is right: a power cut can leave a file without its
// bytes.
bool is_whole(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat attributes {};
  if (!file.valid() || ::fstat(file.get(), &attributes) != 0) return false;
  const auto size = static_cast<uint64_t>(attributes.st_size);
  const ReadObjectRange read = [&](uint64_t offset, uint64_t length) -> Result<Bytes> {
    if (offset > size || length > size - offset) return Error{Errc::kDamaged, path + " is short"};
    Bytes bytes(length);
    const ssize_t n = ::pread(file.get(), bytes.data(), length, static_cast<off_t>(offset));
    if (n != static_cast<ssize_t>(length)) return error_from_errno("cannot read " + path, errno);
    return bytes;
  };
  const auto index = read_segment_index(path, size, read);
  return index.ok() && std::all_of(index->frames.begin(), index->frames.end(), [&](const auto& f) {
           const auto stored = read(f.offset, f.stored_size);
           return stored.ok() && decode_frame(path, f, *stored).ok();
         });
}

// Whether the spool leads without a gap to the catalog's position. An empty one does: then the
// store has everything.
bool leads_to(const std::string& spool, Position position) {
  const auto all = list_spool(spool);
  if (!all.ok()) return true;  // The caller meets the error again.
  std::optional<Position> last;
  for (const PositionRange& range : *all) {
    if (range.last > position) break;
    if (last && range.first.sequence() != last->sequence() + 1) return false;
    if (!is_whole(spool + "/" + segment_name(range))) return false;
    last = range.last;
  }
  return !last || *last == position;
}

// What the store must have for the spool to be worth anything.
Position needed_in_store(const std::string& spool, Position position) {
  const auto all = list_spool(spool);
  if (!all.ok() || all->empty() || all->front().last > position) return position;
  return Position{all->front().first.value - 1};
}

void remove_segment(const std::string& spool, PositionRange range) {
  ::unlink((spool + "/" + segment_name(range)).c_str());
}

// The spool up to the catalog's position; what lies behind it, or all of it, is removed.
Result<std::vector<PositionRange>> usable_spool(const std::string& spool, Position position,
                                                bool fresh) {
  WALFS_ASSIGN(std::vector<PositionRange> all, list_spool(spool));
  std::vector<PositionRange> usable;
  for (const PositionRange& range : all) {
    if (fresh || range.last > position) {
      remove_segment(spool, range);
    } else {
      usable.push_back(range);
    }
  }
  return usable;
}

// The newest epoch was claimed by this directory.
bool has_our_token(const Found& found, const CatalogHeader& header) {
  return found.newest &&
         (found.newest->token == header.token ||
          (!header.earlier_token.empty() && found.newest->token == header.earlier_token));
}

// The store has heard of the catalog's epoch.
bool was_heard(const Found& found, const CatalogHeader& header) {
  return has_our_token(found, header) && found.newest->number == header.epoch;
}

// The replica is the catalog's, and its newest epoch is the catalog's, or would be if that had been
// claimed.
bool is_ours(const Found& found, const CatalogHeader& header) {
  if (found.volume != header.volume || !found.newest) return false;
  if (has_our_token(found, header)) return true;
  return !header.claimed && found.newest->number < header.epoch;
}

Status check_holder(const Store& store, const Found& found, const CatalogHeader& header,
                    bool take_over) {
  if (!found.newest || take_over || is_ours(found, header) || has_our_token(found, header))
    return {};
  return held_by(store, *found.newest);
}

// The last position in the log of whoever wrote before.
Result<Position> last_in_store(Store& store) {
  WALFS_ASSIGN(const ReplicaListing replica, list_replica(store));
  Position last;
  for (const StoredObject& segment : replica.segments) last = std::max(last, segment.range.last);
  for (const StoredObject& snapshot : replica.snapshots) last = std::max(last, snapshot.range.last);
  return last;
}

// The number after the newest epoch, and after the one from which the writer goes on counting: they
// are the same unless objects are missing from the store.
Result<uint64_t> next_epoch(const Store& store, const Found& found, Position before) {
  const uint64_t newest = std::max(before.epoch(), found.newest ? found.newest->number : 0);
  if (newest < Position::kEpochMax) return newest + 1;
  return Error{Errc::kUnsupported,
               "the replica at " + store.describe() + " has no number left for another writer"};
}

// Whether the store has what lies before the spool, and nothing that the catalog does not know: the
// steps of a comparison behind an older position would hide what was acknowledged since.
Result<bool> can_go_on(Store& store, const CatalogHeader& header, const std::string& spool) {
  // Of an epoch that is not claimed the store has nothing.
  const Position last = is_claimed(header, spool) ? header.position : header.parent;
  WALFS_ASSIGN(const LogAhead ahead,
               look_ahead(store, header.uploaded, needed_in_store(spool, header.position), last));
  if (!ahead.leads) {
    spdlog::warn("segments are neither in the spool nor in the store; everything is uploaded anew");
    return false;
  }
  if (ahead.goes_on)
    spdlog::warn("the catalog is older than what the store has; everything is uploaded anew");
  return !ahead.goes_on;
}

// Until the claim whoever wrote before could add to the log: the same directory on another machine,
// which has the same catalog. The next try knows of it.
Status check_still_newest(Store& store, const WriterStart& writer) {
  if (writer.fresh) return {};
  WALFS_ASSIGN(const bool goes_on, log_goes_on(store, writer.epoch.parent));
  if (!goes_on) return {};
  return Error{Errc::kRetry, "another writer has just added to the replica at " + store.describe() +
                                 "; try again"};
}

// Whether the claim of the catalog's epoch was perhaps sent, and not answered.
bool claim_may_arrive(const Found& found, const CatalogHeader& header, const std::string& url,
                      const std::string& spool) {
  if (header.token.empty() || header.url != url || header.volume != found.volume) return false;
  return !was_heard(found, header) && !is_claimed(header, spool);
}

// What the catalog says of the epoch that it has begun.
Epoch begun(const CatalogHeader& header) {
  Epoch epoch;
  epoch.number = header.epoch;
  epoch.parent = header.parent;
  epoch.token = header.token;
  epoch.earlier_token = header.earlier_token;
  return epoch;
}

// Number, parent and tokens of the epoch of a writer that builds on `parent`, or begins anew behind
// it.
Result<Epoch> choose_epoch(const Store& store, const Found& found, const CatalogHeader& header,
                           const std::string& spool, const std::string& url, Position parent,
                           bool fresh) {
  // An epoch that began while the store was away goes on, until the store has heard of it: then
  // it may have points that a catalog from before a power cut does not know.
  if (!fresh && !is_claimed(header, spool) && !was_heard(found, header)) return begun(header);
  const Position last = Position::of(header.epoch, 0);
  Epoch epoch;
  WALFS_ASSIGN(epoch.number, next_epoch(store, found, fresh ? parent : last));
  epoch.parent = parent;
  epoch.token = random_token();
  if (!fresh || header.epoch < epoch.number || !claim_may_arrive(found, header, url, spool))
    return epoch;
  // The same claim again: whichever arrives first is ours.
  if (!header.snapshot_done) return begun(header);
  // That claim builds on what cannot be built on any more. It is ours, but another epoch.
  WALFS_ASSIGN(epoch.number, next_epoch(store, found, std::max(parent, last)));
  epoch.earlier_token = header.token;
  return epoch;
}

}  // namespace

Result<WriterStart> begin_writing(Store& store, Catalog& catalog, const std::string& spool,
                                  const std::string& url, const std::string& holder,
                                  bool take_over) {
  const CatalogHeader before = catalog.header();
  CatalogHeader header = before;
  bool known = !header.volume.empty() && header.url == url && header.snapshot_done;
  if (known && !leads_to(spool, header.position)) {
    spdlog::warn("the spool is not complete; everything is read and uploaded anew");
    known = false;
  }
  WALFS_ASSIGN(Found found, look_at_store(store, !known));
  const bool ours = !found.reachable || is_ours(found, header);
  if (known && ours && found.reachable) {
    const auto may_go_on = can_go_on(store, header, spool);
    if (!may_go_on.ok()) {
      spdlog::warn("starting without the store: {}", may_go_on.error().message);
      found = {};
    } else {
      known = *may_go_on;
    }
  }
  WriterStart writer;
  writer.fresh = !known || !ours;
  if (found.reachable) WALFS_TRY(check_holder(store, found, header, take_over));
  writer.store_has_chunks = !found.volume.empty();

  Position parent = header.position;
  if (writer.fresh) {
    header.volume = found.volume;
    if (header.volume.empty()) {
      WALFS_ASSIGN(header.volume, create_volume(store, random_token()));
    }
    parent = Position{};
    if (found.newest) {
      WALFS_ASSIGN(parent, last_in_store(store));
    }
    WALFS_TRY(catalog.wipe());
  }
  WALFS_ASSIGN(writer.epoch, choose_epoch(store, found, before, spool, url, parent, writer.fresh));
  if (writer.fresh) parent = writer.epoch.parent;
  writer.epoch.fresh = writer.fresh;
  writer.epoch.holder = holder;
  writer.epoch.time_ns = now_ns();
  WALFS_ASSIGN(writer.spooled, usable_spool(spool, parent, writer.fresh));
  writer.start = parent.epoch() == writer.epoch.number
                     ? parent
                     : Position::of(writer.epoch.number, parent.sequence());
  writer.newest = parent;
  writer.uploaded =
      writer.spooled.empty() ? writer.start : Position{writer.spooled.front().first.value - 1};
  forget_claims(spool, {before.token, writer.epoch.token});
  header.url = url;
  header.token = writer.epoch.token;
  header.earlier_token = writer.epoch.earlier_token;
  header.epoch = writer.epoch.number;
  header.claimed = false;
  header.parent = writer.epoch.parent;
  header.position = parent;
  if (writer.fresh || found.reachable) header.uploaded = writer.uploaded;
  writer.proven = header.uploaded;
  if (writer.fresh) header.complete = parent;
  header.snapshot_done = !writer.fresh;
  header.clean = false;
  // Before the claim, whose answer may be lost: the token is how it is recognised then.
  WALFS_TRY(catalog.set_header(header));
  if (!found.reachable) return writer;
  const Result<Fencing> claimed = claim_epoch(store, writer.epoch);
  if (claimed.ok()) {
    writer.fencing = *claimed;
    WALFS_TRY(note_claimed(catalog, spool));
    WALFS_TRY(check_still_newest(store, writer));
  } else if (writer.fresh || claimed.error().code == Errc::kConflict) {
    return claimed.error();
  } else {
    spdlog::warn("starting without the store: {}", claimed.error().message);
  }
  return writer;
}

Result<WriterStart> resume_writing(Catalog& catalog, const std::string& spool,
                                   const std::string& url, const std::string& holder) {
  CatalogHeader header = catalog.header();
  if (header.volume.empty() || header.url != url)
    return Error{Errc::kDamaged, "the catalog is not that of the mount; unmount and mount again"};
  WriterStart writer;
  writer.fresh = !header.snapshot_done;
  // What a first upload has put is found there again.
  writer.store_has_chunks = true;
  writer.newest = header.position;
  if (writer.fresh && is_claimed(header, spool)) {
    // The log and the snapshot of the upload that has not ended are no part of the next one.
    if (header.epoch >= Position::kEpochMax)
      return Error{Errc::kUnsupported, "the replica has no number left for another writer"};
    header.parent = header.position;
    header.token = random_token();
    header.earlier_token.clear();
    header.claimed = false;
    ++header.epoch;
  }
  // Claimed or not: the uploader claims again, recognises what is its own, and learns how the store
  // fences.
  writer.epoch = begun(header);
  writer.epoch.fresh = writer.fresh;
  writer.epoch.holder = holder;
  writer.epoch.time_ns = now_ns();
  WALFS_ASSIGN(writer.spooled, usable_spool(spool, header.position, writer.fresh));
  writer.start = header.position.epoch() == header.epoch
                     ? header.position
                     : Position::of(header.epoch, header.position.sequence());
  writer.uploaded =
      writer.spooled.empty() ? writer.start : Position{writer.spooled.front().first.value - 1};
  writer.proven = writer.fresh ? writer.uploaded : header.uploaded;
  if (!writer.fresh) return writer;
  WALFS_TRY(catalog.wipe());
  header.uploaded = writer.uploaded;
  WALFS_TRY(catalog.set_header(header));
  return writer;
}

}  // namespace walfs
