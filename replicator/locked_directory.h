// A private directory with a fixed name beside another one, for what is needed while that is being
// made or changed. One process at a time has it; what one that was killed has left in it is found
// by the next.
#pragma once

#include <functional>
#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

class LockedDirectory {
 public:
  // Makes the directory, or takes one that has only `names` in it and belongs to this user.
  // kConflict with `busy` if another process has it, or if something else has its name.
  static Result<LockedDirectory> claim(const std::string& path,
                                       const std::function<bool(const std::string& name)>& is_ours,
                                       const std::string& busy);
  LockedDirectory() = default;
  LockedDirectory(LockedDirectory&&) noexcept = default;
  LockedDirectory& operator=(LockedDirectory&&) noexcept = default;

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  FileDescriptor fd_;
};

}  // namespace walfs
