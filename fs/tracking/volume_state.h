// What a server of a volume begins with: the store, the catalog, and where the log goes on.
#pragma once

#include <memory>
#include <string>

#include "fs/mount/hooks.h"
#include "fs/tracking/tree_scan.h"
#include "replicator/catalog.h"
#include "replicator/stores/store.h"
#include "replicator/uploader.h"
#include "replicator/writer.h"

namespace walfs {

struct VolumeState {
  std::string path;  // Of the state directory, around the mount.
  std::unique_ptr<Store> store;
  std::unique_ptr<Catalog> catalog;
  WriterStart writer;
  Trust trust = Trust::kNothing;

  std::string spool() const { return path + "/spool"; }
  // Empties the spool into the store from now on.
  std::unique_ptr<Uploader> start_uploads() const;
};

Result<VolumeState> open_volume_state(const ServerContext& context);

}  // namespace walfs
