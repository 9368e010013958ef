// Where replicas live: a flat space of objects named by keys.
//
// Keys are made by replicator/keys.h: printable ASCII without spaces, '/'-separated, no leading
// slash, no part that begins with a dot (replicator/stores/object_key.h); no key is also the
// directory of another. Every object is written once and never changed. All functions may be called
// from several threads at once. A store tries passing faults again by itself, up to its retry
// budget; kRetry means that the budget is spent. After a put that ends so, the object may be there
// or not: when a kIfAbsent put is then called again, it can meet its own object as a conflict.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replicator/base/bytes.h"
#include "replicator/base/result.h"

namespace walfs {

struct ObjectInfo {
  std::string key;
  uint64_t size = 0;
  int64_t modified_ns = 0;  // When it was written, by the store's clock; 0 if that is not known.
                            // Only list() tells.
};

// A body to upload: bytes in memory, or a range of an open file. Neither is owned; both outlive the
// call.
struct ObjectBody {
  ByteView memory;
  int fd = -1;  // When not -1, the body is `size` bytes of fd from `offset`, read with pread.
  uint64_t offset = 0;
  uint64_t size = 0;
  static ObjectBody of(ByteView bytes) { return {bytes, -1, 0, bytes.size()}; }
  static ObjectBody of(std::string_view text) { return of(as_bytes(text)); }
  static ObjectBody of_file(int fd, uint64_t offset, uint64_t size) {
    return {{}, fd, offset, size};
  }
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t size = 0;
};

enum class PutMode {
  kPlain,     // Durable when put returns; an existing object is replaced.
  kIfAbsent,  // The same, or kConflict when the key exists: of several racing writers exactly one
              // wins.
};

class Store {
 public:
  virtual ~Store() = default;
  virtual Status put(const std::string& key, const ObjectBody& body, PutMode mode) = 0;
  // The whole object, which must be at most max_size bytes long (kDamaged if it is longer).
  virtual Result<Bytes> get(const std::string& key, uint64_t max_size) = 0;
  // Exactly `range`; kDamaged when the object ends before it.
  virtual Result<Bytes> get_range(const std::string& key, ByteRange range) = 0;
  // kNothingThere, as of every other function, when the key (or the whole bucket or directory) does
  // not exist.
  virtual Result<ObjectInfo> head(const std::string& key) = 0;
  // At most `limit` objects whose keys start with `prefix` and are greater than `after`, in order
  // of their bytes.
  virtual Result<std::vector<ObjectInfo>> list(const std::string& prefix, const std::string& after,
                                               size_t limit) = 0;
  // Also succeeds when there is no such object.
  virtual Status remove(const std::string& key) = 0;
  // False once the store has refused a conditional request: a kIfAbsent put looks first and then
  // puts, so that of racing writers the last one wins.
  virtual bool has_conditional_put() const { return true; }
  // For people: the URL without credentials.
  virtual std::string describe() const = 0;
};

// Credentials and limits that do not belong into a URL.
struct StoreOptions {
  std::string credentials_file;         // "" = environment only.
  unsigned request_timeout_ms = 30000;  // Without any progress for that long a request is given up.
  unsigned connect_timeout_ms = 10000;
  unsigned retry_budget_ms = 20000;  // How long one call may go on trying; 0 = a single try.
  unsigned max_request_rate = 0;     // Requests in a second, tries included; 0 = no limit.
};

// file:///absolute/dir or s3://bucket/prefix?endpoint=...&region=...; kUsage for anything else.
// With `create`, a file store's directory may be made; else kNothingThere if it is missing.
Result<std::unique_ptr<Store>> open_store(const std::string& url, const StoreOptions& options,
                                          bool create);

}  // namespace walfs
