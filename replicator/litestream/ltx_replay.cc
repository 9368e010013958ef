#include "replicator/litestream/ltx_stream.h"
#include "replicator/litestream/object_reader.h"
#include "replicator/litestream/replay.h"

namespace walfs::litestream {
namespace {

// Before anything of the file is written.
Status check_header(const LtxObject& object, const LtxHeader& header, uint32_t page_size) {
  if (header.first != object.first || header.last != object.last) {
    return Error{Errc::kDamaged,
                 object.object.key + " is damaged: it holds other transactions than its name says"};
  }
  if (page_size == 0 || header.page_size == page_size) return {};
  return Error{Errc::kDamaged,
               object.object.key + " is damaged: its pages have another size than those before"};
}

}  // namespace

Status replay_ltx_plan(Store& store, LtxPlan& plan, DatabaseFile& database,
                       const RestoreOptions& options) {
  std::vector<Object> objects;
  for (const LtxObject& object : plan.objects) objects.push_back(object.object);
  ObjectReader reader(store, objects, options);
  uint32_t page_size = 0;
  for (const LtxObject& object : plan.objects) {
    LtxStream* reading = nullptr;
    LtxStream stream(object.object.key, [&](uint32_t page, ByteView content) -> Status {
      WALFS_TRY(check_header(object, *reading->header(), page_size));
      return database.write_page(page, content);
    });
    reading = &stream;
    WALFS_TRY(reader.read_stored([&](ByteView stored) { return stream.add(stored); }));
    WALFS_TRY(stream.finish());
    const LtxHeader& header = *stream.header();
    WALFS_TRY(check_header(object, header, page_size));
    page_size = header.page_size;
    plan.time_ns = header.time_ns;
    WALFS_TRY(database.set_pages(header.pages, page_size));
  }
  return {};
}

}  // namespace walfs::litestream
