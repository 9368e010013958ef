// A mount that tells nobody: the observer and the hooks of a plain passthrough.
#pragma once

#include <memory>

#include "fs/mount/hooks.h"

namespace walfs {

class NullObserver : public FileObserver {
 public:
  TrackedFile* attach(int, const struct stat&, TrackedFile*, const char*) override {
    return nullptr;
  }
  TrackedFile* attach_again(int, const struct stat&, const std::string&, unsigned) override {
    return nullptr;
  }
  void detach(TrackedFile*) override {}
  void opened_writable(TrackedFile*) override {}
  void closed_writable(TrackedFile*) override {}
  void before_write(TrackedFile*, uint64_t, ByteView) override {}
  void wrote(TrackedFile*, uint64_t, uint64_t) override {}
  void before_range_change(TrackedFile*, uint64_t, uint64_t) override {}
  void range_changed(TrackedFile*, uint64_t, uint64_t) override {}
  void before_truncate(TrackedFile*, uint64_t) override {}
  void truncated(TrackedFile*, uint64_t) override {}
  void before_fsync(TrackedFile*) override {}
  void synced(TrackedFile*) override {}
  void created(TrackedFile*, const char*, TrackedFile*) override {}
  void linked(TrackedFile*, const char*, TrackedFile*) override {}
  void before_unlink(TrackedFile*, const char*, TrackedFile*) override {}
  void unlinked(TrackedFile*, const char*, TrackedFile*) override {}
  void before_rename(TrackedFile*, const char*, TrackedFile*, const char*, TrackedFile*,
                     TrackedFile*, unsigned) override {}
  void renamed(TrackedFile*, const char*, TrackedFile*, const char*, TrackedFile*, TrackedFile*,
               unsigned) override {}
  void attributes_changed(TrackedFile*) override {}
};

class NullHooks : public ServerHooks {
 public:
  Status start(const ServerContext&) override { return {}; }
  FileObserver& observer() override { return observer_; }
  nlohmann::json status() override { return nlohmann::json::object(); }
  Result<nlohmann::json> sync(int64_t) override { return nlohmann::json::object(); }
  Status finish(int64_t, bool) override { return {}; }

 private:
  NullObserver observer_;
};

inline std::unique_ptr<ServerHooks> make_null_hooks() {
  return std::make_unique<NullHooks>();
}

}  // namespace walfs
