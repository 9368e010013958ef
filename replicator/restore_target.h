// The directory that a restore or an export makes: a new one beside the target, which takes its
// place at the end.
#pragma once

#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

// What is done, as messages and the new directory's name have it.
struct TargetWords {
  const char* verb;
  const char* doing;
  const char* done;
  const char* instead;  // Of writing to a directory that is not empty.
};
inline constexpr TargetWords kRestoring = {
    "restore", "restoring", "restored",
    "restore to a new directory, or pass --force to replace all that is in it"};
inline constexpr TargetWords kExporting = {"export", "exporting", "exported",
                                           "export to a new directory, or empty this one"};

class RestoreDirectory {
 public:
  // Checks that `path` can be written to: not there yet, empty, or anything with `force`; and
  // neither a mount point nor a place inside a walfs mount. Changes nothing.
  static Result<RestoreDirectory> open(const std::string& path, bool force,
                                       const TargetWords& words = kRestoring);
  RestoreDirectory(RestoreDirectory&&) noexcept = default;
  // Removes the new directory unless it was committed.
  ~RestoreDirectory();

  const std::string& path() const { return path_; }  // Absolute.
  Status begin();                                    // Makes the new directory.
  int fd() const { return fd_.get(); }
  // Puts the new directory in the target's place; what stood there is removed afterwards.
  Status commit();

 private:
  explicit RestoreDirectory(const TargetWords& words) : words_(words) {}
  Status step_aside_and_rename();
  TargetWords words_;
  std::string path_;       // Absolute.
  std::string temporary_;  // "" before begin and after commit.
  bool exists_ = false;
  FileDescriptor fd_;
};

}  // namespace walfs
