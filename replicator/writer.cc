#include "replicator/writer.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "replicator/base/file_descriptor.h"
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

// The replica is the catalog's, and its newest epoch is the catalog's, or would be if that had been
// claimed.
bool is_ours(const Found& found, const CatalogHeader& header) {
  if (found.volume != header.volume || !found.newest) return false;
  if (found.newest->token == header.token) return true;
  return !header.claimed && found.newest->number < header.epoch;
}

Status check_holder(const Store& store, const Found& found, const CatalogHeader& header,
                    bool take_over) {
  if (!found.newest || take_over || is_ours(found, header) || found.newest->token == header.token)
    return {};
  return Error{Errc::kConflict, "the replica at " + store.describe() + " is written by " +
                                    found.newest->holder + " since " +
                                    format_time(found.newest->time_ns) +
                                    "; if that one has ended for good, mount with --take-over"};
}

// The last position in the log of whoever wrote before.
Result<Position> last_in_store(Store& store) {
  WALFS_ASSIGN(const ReplicaListing replica, list_replica(store));
  Position last;
  for (const StoredObject& segment : replica.segments) last = std::max(last, segment.range.last);
  return last;
}

}  // namespace

Result<WriterStart> begin_writing(Store& store, Catalog& catalog, const std::string& spool,
                                  const std::string& url, const std::string& holder,
                                  bool take_over) {
  CatalogHeader header = catalog.header();
  bool known = !header.volume.empty() && header.url == url && header.snapshot_done;
  if (known && !leads_to(spool, header.position)) {
    spdlog::warn("the spool is not complete; everything is read and uploaded anew");
    known = false;
  }
  WALFS_ASSIGN(const Found found, look_at_store(store, !known));
  const bool ours = !found.reachable || is_ours(found, header);
  WriterStart writer;
  writer.fresh = !known || !ours;
  if (found.reachable) WALFS_TRY(check_holder(store, found, header, take_over));
  writer.store_has_chunks = !found.volume.empty();

  Position parent = header.position;
  if (writer.fresh) {
    WALFS_ASSIGN(header.volume, create_volume(store, random_token()));
    parent = Position{};
    if (found.newest) {
      WALFS_ASSIGN(parent, last_in_store(store));
    }
    WALFS_TRY(catalog.wipe());
  }
  if (!writer.fresh && !header.claimed) {
    // An epoch that began while the store was away goes on, until the store has heard of it.
    writer.epoch.number = header.epoch;
    writer.epoch.parent = header.parent;
    writer.epoch.token = header.token;
  } else {
    writer.epoch.number =
        std::max(known ? header.epoch : 0, found.newest ? found.newest->number : 0) + 1;
    writer.epoch.parent = parent;
    writer.epoch.token = random_token();
  }
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
  header.url = url;
  header.token = writer.epoch.token;
  header.epoch = writer.epoch.number;
  header.claimed = false;
  header.parent = writer.epoch.parent;
  header.position = parent;
  header.snapshot_done = !writer.fresh;
  header.clean = false;
  // Before the claim, whose answer may be lost: the token is how it is recognised then.
  WALFS_TRY(catalog.set_header(header));
  if (!found.reachable) return writer;
  const Status claimed = claim_epoch(store, writer.epoch);
  writer.claimed = claimed.ok();
  if (claimed.ok()) {
    WALFS_TRY(catalog.set_claimed());
  } else if (writer.fresh || claimed.error().code == Errc::kConflict) {
    return claimed.error();
  } else {
    spdlog::warn("starting without the store: {}", claimed.error().message);
  }
  return writer;
}

}  // namespace walfs
