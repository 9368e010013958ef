// The directory that a restore or an export makes: a new one beside the target, which takes its
// place at the end. It stands in a private directory TARGET.restoring, as `walfs-files`, beside the
// notes of what was fetched (restore_proofs.h); what an interrupted restore leaves there is found
// by the next one.
#pragma once

#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/locked_directory.h"
#include "replicator/stores/store.h"

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

// The target as an absolute path whose parent is there, with all symbolic links resolved.
Result<std::string> target_path(const std::string& path, const TargetWords& words = kRestoring);

class RestoreDirectory {
 public:
  // Checks that `path` can be written to: not there yet, empty, or anything with `force`; neither a
  // mount point nor a place inside a walfs mount, and with nothing mounted, and no replica that is
  // read from, in what would be replaced. Changes nothing.
  static Result<RestoreDirectory> open(const std::string& path, bool force, const Store& store,
                                       const TargetWords& words = kRestoring);
  RestoreDirectory(RestoreDirectory&&) noexcept = default;
  // Removes the new directory unless it was committed or is to be kept.
  ~RestoreDirectory();

  const std::string& path() const { return path_; }  // Absolute.
  // Makes the new directory. kConflict if another restore of this target is under way, or if
  // something else has the name.
  Status begin();
  // In it there may be what an earlier restore has left, unless that was removed.
  int fd() const { return files_.get(); }
  std::string files_path() const { return temporary_.path() + "/walfs-files"; }
  bool has_earlier_content() const { return has_earlier_content_; }
  Status remove_earlier_content();
  // Where an earlier restore has noted what it fetched, and this one does; open for both.
  Result<FileDescriptor> open_proofs() const;
  // For a restore that fails and may go on another time. Says where it is then.
  const std::string& keep();
  // Puts the new directory in the target's place; what stood there is removed afterwards. Without
  // `force` nothing but an empty directory is ever replaced, whatever has happened meanwhile.
  Status commit();

 private:
  explicit RestoreDirectory(const TargetWords& words) : words_(words) {}
  Status take_place();
  Status step_aside_and_rename();
  Status remove_temporary();
  TargetWords words_;
  std::string path_;  // Absolute.
  bool exists_ = false;
  bool force_ = false;
  bool has_earlier_content_ = false;
  bool keep_ = false;
  LockedDirectory temporary_;  // TARGET.restoring.
  FileDescriptor files_;       // What takes the target's place.
};

}  // namespace walfs
