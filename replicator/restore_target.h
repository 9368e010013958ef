// The directory that a restore makes: a new one beside the target, which takes its place at the
// end.
#pragma once

#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class RestoreDirectory {
 public:
  // Checks that `path` can be restored to: not there yet, empty, or anything with `force`; and
  // neither a mount point nor a place inside a walfs mount. Changes nothing.
  static Result<RestoreDirectory> open(const std::string& path, bool force);
  RestoreDirectory(RestoreDirectory&&) noexcept = default;
  // Removes the new directory unless it was committed.
  ~RestoreDirectory();

  Status begin();  // Makes the new directory.
  int fd() const { return fd_.get(); }
  // Puts the new directory in the target's place; what stood there is removed afterwards.
  Status commit();

 private:
  RestoreDirectory() = default;
  Status step_aside_and_rename();
  std::string path_;       // Absolute.
  std::string temporary_;  // "" before begin and after commit.
  bool exists_ = false;
  FileDescriptor fd_;
};

}  // namespace walfs
