// A replica in a directory: every key is a file.
//
// An object appears whole or not at all: it is written to a file under .tmp/, flushed, then renamed
// into place and the directory flushed. Nothing beneath the root is reached through a symlink.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"
#include "replicator/stores/store.h"

namespace walfs {

// `create`: make the directory (and those above it) if it is missing.
Result<std::unique_ptr<Store>> open_file_store(const std::string& path, bool create);

class FileStore final : public Store {
 public:
  FileStore(std::string path, FileDescriptor root)
      : path_(std::move(path)), root_(std::move(root)) {}

  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override;
  Result<Bytes> get(const std::string& key, uint64_t max_size) override;
  Result<Bytes> get_range(const std::string& key, ByteRange range) override;
  Result<ObjectInfo> head(const std::string& key) override;
  Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                       size_t limit) override;
  Status remove(const std::string& key) override;
  std::string describe() const override { return "file://" + path_; }

  // Removes what writers that were killed left under .tmp/ more than a day ago.
  void sweep();

 private:
  std::string name(const std::string& key) const { return path_ + "/" + key; }
  Result<FileDescriptor> make_directory(const std::string& path);
  Result<FileDescriptor> open_object(const std::string& key, uint64_t& size);
  Result<Bytes> read(const FileDescriptor& file, const std::string& key, ByteRange range);

  const std::string path_;
  const FileDescriptor root_;
  std::mutex mutex_;
  std::set<std::string> durable_directories_;  // Those whose names are known to be on the disk.
};

}  // namespace walfs
