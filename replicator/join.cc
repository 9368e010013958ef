#include "replicator/join.h"

#include "replicator/base/file_io.h"
#include "replicator/segment_reader.h"

namespace walfs {
namespace {

Status copy_points(Store& store, const StoredObject& segment, SegmentWriter& writer,
                   const std::atomic<bool>& stopping) {
  SegmentReader reader(store, segment);
  WALFS_ASSIGN(const SegmentIndex index, reader.open());
  for (const Point& point : index.points) {
    if (stopping) return Error{Errc::kCancelled, "compaction was stopped"};
    WALFS_TRY(writer.add(point, [&](const SetContent& content, const BlockChange& block) {
      return reader.block(index, content, block);
    }));
  }
  return {};
}

}  // namespace

Result<StoredObject> put_segment(Store& store, SegmentWriter& writer, int file, unsigned level) {
  WALFS_TRY(writer.finish());
  StoredObject made{{writer.first(), writer.last()}, writer.bytes_written(), level};
  const std::string key = segment_key(made.range, level);
  const Status put = store.put(key, ObjectBody::of_file(file, 0, made.size), PutMode::kIfAbsent);
  if (put.ok()) return made;
  if (put.error().code != Errc::kConflict) return put.error();
  WALFS_ASSIGN(const ObjectInfo there, store.head(key));
  made.size = there.size;
  WALFS_TRY(load_segment_index(store, made));
  return made;
}

Result<StoredObject> join_segments(Store& store, const std::vector<StoredObject>& segments,
                                   unsigned level, const std::string& scratch,
                                   const std::atomic<bool>& stopping) {
  WALFS_ASSIGN(const FileDescriptor file, open_unnamed(scratch, "to join segments in"));
  SegmentWriter writer(file.get());
  for (const StoredObject& segment : segments)
    WALFS_TRY(copy_points(store, segment, writer, stopping));
  return put_segment(store, writer, file.get(), level);
}

}  // namespace walfs
