// A restored directory whose files are changed on, point by point, as the log says.
//
// Between two points the directory is exactly what a restore would give. A point is applied in
// steps: what loses its last name goes aside, new files are made there, contents are written, names
// are given, attributes are set, and what is still aside without being known any more is removed.
// Whoever looks meanwhile may see a part of it; if it fails in between, the directory is no state
// of the log.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/restore_plan.h"

namespace walfs {

// The changes of one point of the log, and where the bytes of their blocks are.
struct PointPart {
  std::vector<Change> changes;
  // The bytes of a block of the changes, `size` of them.
  std::function<Result<Bytes>(const BlockChange& block, uint64_t size)> read;
};

class FollowedTree {
 public:
  // `directory` was restored with the plan; `aside` is an empty private directory on the same
  // filesystem. kDamaged if the plan's entries make no tree.
  static Result<FollowedTree> open(const std::string& directory, const std::string& aside,
                                   RestorePlan plan);

  // kIo if `directory` is not what it was: moved away, replaced, or mounted over. Nobody may be
  // written to from beneath.
  Status check_place(const std::string& directory) const;
  // One point that is not partial, and the partial ones before it. kDamaged if a checksum is not
  // right: of what was fetched, or of what is in the directory. kUnsupported if the point names
  // what a restored directory does not have: restore it anew.
  Status apply(const std::vector<PointPart>& parts);
  // All that was applied is on the disk.
  Status flush() const;

 private:
  using Name = std::pair<FileId, std::string>;  // The directory, and the name in it.
  struct File {
    PlannedFile planned;          // Without extents and blocks.
    std::set<Name> names;         // On the disk.
    bool aside = false;           // On the disk without a name.
    std::optional<uint64_t> sum;  // Of its blocks' hashes, once it was read.
    bool missing = false;         // It was still open without a name, which restores leave out.
    bool dropped = false;
  };
  struct Place {
    int directory;
    std::string path;
  };
  struct Content {
    const PointPart* part;
    const SetContent* change;
  };

  FollowedTree() = default;
  Status note(const PointPart& part);
  void note_entry(FileId parent, const std::string& name, FileId child);
  Status take_away();
  Status make_new_files();
  Status write_contents();
  Status write(const Content& content, File& file, int fd);
  Status give_names();
  Status set_all_attributes();
  Status remove_dropped_files();

  bool on_disk(FileId id) const;
  // The directory of a place, open, and the name in it: no symbolic link leads out of there.
  struct At {
    FileDescriptor directory;
    std::string name;
  };
  static Result<At> at(const Place& place);
  Place place_of(FileId id) const;
  Place place_of(const Name& name) const;

  FileDescriptor root_;
  FileDescriptor aside_;
  std::map<FileId, File> files_;
  std::map<FileId, std::map<std::string, FileId>> entries_;
  // Of the point that is being applied:
  std::map<Name, FileId> before_;  // Entries that change, and what they were.
  std::set<FileId> touched_;       // Files whose attributes are to be set.
  std::vector<Content> contents_;
  std::vector<FileId> dropped_;
};

}  // namespace walfs
