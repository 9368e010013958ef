// Writes one LTX file of Litestream v0.5 that holds a whole database, page by page.
// replicator/litestream/ltx_stream.h tells the format; it is specified at
// https://github.com/superfly/ltx. Memory does not depend on the size of the database: what the
// index at the end needs waits in a file.
#pragma once

#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/file_descriptor.h"
#include "replicator/base/file_io.h"
#include "replicator/base/result.h"
#include "replicator/litestream/ltx_stream.h"

namespace walfs::litestream {

class LtxWriter {
 public:
  // `file` is open for writing and empty; `name` is for messages. The index waits in a file without
  // a name in the open directory. The header's `first` is 1, its page size one of SQLite's, its
  // time not before 1970. The checksums of the database are always left out, as Litestream does: it
  // cannot restore what ends with a file that has them.
  static Result<LtxWriter> begin(FileDescriptor file, std::string name, int directory,
                                 const LtxHeader& header);

  // All pages of the database from 1 on, each of the header's page size, without the lock page.
  Status add_page(uint32_t page, ByteView content);
  // After the last page. The file is complete then, but not flushed to the disk.
  Status finish();
  int fd() const { return file_.fd(); }

 private:
  LtxWriter(FileDescriptor file, std::string name, FileDescriptor index)
      : file_(std::move(file), std::move(name)), index_(std::move(index), "the index of pages") {}
  Status put(ByteView bytes);
  Status put_index();

  FileAppender file_;
  FileAppender index_;
  Bytes block_;
  uint64_t checksum_ = 0;
};

}  // namespace walfs::litestream
