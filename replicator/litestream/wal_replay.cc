#include <memory>

#include "replicator/litestream/object_reader.h"
#include "replicator/litestream/replay.h"
#include "replicator/litestream/wal_stream.h"

namespace walfs::litestream {
namespace {

// Lays the logs of a plan over the database, one after the other.
class Replay {
 public:
  Replay(DatabaseFile& database, int directory, uint32_t page_size)
      : database_(database), directory_(directory), page_size_(page_size) {}

  // `next` is null behind the last piece.
  Status add(const Object& piece, const Object* next, ObjectReader& reader) {
    if (piece.offset == 0) WALFS_TRY(begin());
    if (stream_->size() != piece.offset) {
      return Error{Errc::kDamaged, "a part of the log before " + piece.key +
                                       " is missing in the replica: what is there ends at " +
                                       std::to_string(stream_->size()) + " of " +
                                       std::to_string(piece.offset) + " bytes"};
    }
    const bool goes_on = next != nullptr && next->index == piece.index;
    const uint64_t end = goes_on ? next->offset : UINT64_MAX;
    WALFS_TRY(reader.read_frame([&](ByteView content) -> Status {
      if (content.size() > end - stream_->size())
        return Error{Errc::kDamaged, piece.key + " is damaged: it reaches into " + next->key};
      return stream_->add(content, piece.key);
    }));
    if (!stream_->between_frames())
      return Error{Errc::kDamaged, piece.key + " is damaged: it ends within a frame"};
    return goes_on ? Status() : end_log(piece, next);
  }

 private:
  Status begin() {
    WALFS_ASSIGN(FrameSpool spool, FrameSpool::create(directory_, page_size_));
    spool_ = std::make_unique<FrameSpool>(std::move(spool));
    stream_ = std::make_unique<WalStream>(
        page_size_,
        [this](const WalFrameHeader&, ByteView frame) -> Status { return spool_->add(frame); });
    return {};
  }

  // Behind the last commit of the newest log there may be the beginning of a transaction, which
  // never happened. Behind that of an earlier log, the rest of it is missing.
  Status end_log(const Object& piece, const Object* next) {
    if (next != nullptr && stream_->committed_frames() != stream_->frames()) {
      return Error{Errc::kDamaged, "the log behind " + piece.key +
                                       " is missing in the replica: a transaction does not end"};
    }
    if (stream_->committed_frames() == 0) return {};
    return spool_->lay_over(database_, stream_->committed_frames(), stream_->database_pages());
  }

  DatabaseFile& database_;
  const int directory_;
  const uint32_t page_size_;
  std::unique_ptr<FrameSpool> spool_;
  std::unique_ptr<WalStream> stream_;
};

}  // namespace

Status replay_plan(Store& store, const Plan& plan, DatabaseFile& database, int directory,
                   const RestoreOptions& options) {
  std::vector<Object> objects{plan.snapshot};
  objects.insert(objects.end(), plan.pieces.begin(), plan.pieces.end());
  ObjectReader reader(store, objects, options);
  WALFS_TRY(reader.read_frame([&](ByteView content) { return database.append(content); }));
  WALFS_ASSIGN(const uint32_t page_size, database.read_page_size(plan.snapshot.key));
  Replay replay(database, directory, page_size);
  for (size_t i = 0; i < plan.pieces.size(); ++i) {
    const Object* next = i + 1 < plan.pieces.size() ? &plan.pieces[i + 1] : nullptr;
    WALFS_TRY(replay.add(plan.pieces[i], next, reader));
  }
  return {};
}

}  // namespace walfs::litestream
