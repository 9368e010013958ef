// A writer of a replica, as the catalog, the spool and the uploader of one directory.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replicator/claims.h"
#include "replicator/log.h"
#include "replicator/uploader.h"
#include "replicator/writer.h"
#include "tests/support/replica_builder.h"
#include "tests/support/scratch_directory.h"

namespace walfs::test {

inline constexpr const char* kWritersUrl = "memory://test";

// A directory with a catalog and a spool, and the ways in which its writer begins and ends.
class Host {
 public:
  Host(Store& store, std::string name) : store_(store), name_(std::move(name)) {
    spool_ = scratch_.make("spool");
  }

  Result<WriterStart> begin(bool take_over = false, const std::string& url = kWritersUrl) {
    log_.reset();
    catalog_.reset();
    auto catalog = Catalog::open(scratch_.path("catalog.db"));
    if (!catalog.ok()) return catalog.error();
    catalog_ = std::move(catalog).value();
    auto start = begin_writing(store_, *catalog_, spool_, url, name_, take_over);
    if (start.ok()) {
      epoch_ = start->epoch;
      fencing_ = start->fencing;
      uploaded_ = start->uploaded;
      proven_ = start->proven;
      spooled_ = start->spooled;
      log_ = std::make_unique<Log>(*catalog_, spool_, start->start);
    }
    return start;
  }
  // Writes a point into a segment of its own.
  Position write() {
    Point point;
    point.changes = {SetFile{5, {}}};
    const auto position = log_->append(point);
    EXPECT_TRUE(position.ok());
    EXPECT_TRUE(log_->seal().ok());
    spooled_.push_back({*position, *position});
    return *position;
  }
  // Sends all that is spooled.
  bool upload(std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
    Uploader uploader(store_, spool_, epoch_, fencing_, uploaded_,
                      [this] { return note_claimed(*catalog_, spool_); });
    uploader.prove_log_from(proven_);
    const auto spooled = std::exchange(spooled_, {});
    for (const PositionRange& range : spooled) uploader.add(range);
    const bool done = spooled.empty() || uploader.wait_for(spooled.back().last, timeout);
    if (done && !spooled.empty()) uploaded_ = spooled.back().last;
    fencing_ = uploader.status().fencing;
    error_ = uploader.status().error;
    return done;
  }
  void finish_first_upload() { EXPECT_TRUE(catalog_->set_snapshot_done().ok()); }
  Catalog& catalog() { return *catalog_; }
  std::string copy_catalog() {
    const std::string copy = scratch_.make("copy");
    for (const char* name : {"catalog.db", "catalog.db-wal"})
      std::filesystem::copy_file(scratch_.path(name), copy + "/" + name);
    return copy;
  }
  void bring_catalog_back(const std::string& copy) {
    log_.reset();
    catalog_.reset();
    for (const char* name : {"catalog.db", "catalog.db-wal"})
      std::filesystem::copy_file(copy + "/" + name, scratch_.path(name),
                                 std::filesystem::copy_options::overwrite_existing);
  }
  const std::string& spool() const { return spool_; }
  std::string upload_error() const { return error_ ? error_->message : ""; }

 private:
  ScratchDirectory scratch_;
  Store& store_;
  const std::string name_;
  std::string spool_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Log> log_;
  Epoch epoch_;
  Fencing fencing_ = Fencing::kUnclaimed;
  Position uploaded_;
  Position proven_;
  std::optional<Error> error_;
  std::vector<PositionRange> spooled_;
};

// A put may arrive long after the writer has given it up, just before the next one, or never.
class LateStore : public MemoryStore {
 public:
  void delay_next_put(const std::string& prefix) { prefix_ = prefix; }
  void lose_next_put(const std::string& prefix) { lost_ = prefix; }
  void lose_delayed() { late_.reset(); }
  Status put(const std::string& key, const ObjectBody& body, PutMode mode) override {
    if (!lost_.empty() && key.starts_with(lost_)) {
      lost_.clear();
      return Error{Errc::kRetry, "no answer for " + key};
    }
    if (!prefix_.empty() && key.starts_with(prefix_)) {
      prefix_.clear();
      late_ = {key, Bytes(body.memory.begin(), body.memory.end())};
      return Error{Errc::kRetry, "no answer for " + key};
    }
    if (late_) {
      const auto [late_key, bytes] = *std::exchange(late_, std::nullopt);
      EXPECT_TRUE(MemoryStore::put(late_key, ObjectBody::of(bytes), PutMode::kIfAbsent).ok());
    }
    return MemoryStore::put(key, body, mode);
  }

 private:
  std::string prefix_;
  std::string lost_;
  std::optional<std::pair<std::string, Bytes>> late_;
};

class WriterTest : public ::testing::Test {
 protected:
  WriterTest() : host_(store_, "host:/srv/app"), other_(store_, "other:/srv/app") {}

  static Position at(uint64_t epoch, uint64_t sequence) { return Position::of(epoch, sequence); }
  // A host whose first upload is complete and which has written two points.
  void establish(Host& host) {
    ASSERT_TRUE(host.begin().ok());
    host.write();
    host.write();
    ASSERT_TRUE(host.upload());
    host.finish_first_upload();
    ASSERT_TRUE(host.catalog().commit(host.catalog().header().position).ok());
  }
  void go_offline() {
    for (const auto call : {Call::kPut, Call::kGet, Call::kList}) {
      store_.fail(call, Errc::kRetry, 1000000);
    }
  }
  std::vector<Epoch> epochs() { return *read_epochs(store_); }

  MemoryStore store_;
  Host host_;
  Host other_;
};

}  // namespace walfs::test
