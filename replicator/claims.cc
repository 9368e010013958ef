#include "replicator/claims.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "replicator/base/file_descriptor.h"
#include "replicator/replica.h"

namespace walfs {
namespace {

// The name is all that is in the file.
constexpr const char* kClaimedPrefix = "claimed-";

std::string claim_path(const std::string& spool, const std::string& token) {
  return spool + "/" + kClaimedPrefix + token;
}

}  // namespace

Status note_claimed(Catalog& catalog, const std::string& spool) {
  const std::string path = claim_path(spool, catalog.header().token);
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const FileDescriptor directory(::open(spool.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.valid() || !directory.valid() || ::fsync(directory.get()) != 0)
    return error_from_errno("cannot note the claim in " + spool, errno);
  return catalog.set_claimed();
}

bool is_claimed(const CatalogHeader& header, const std::string& spool) {
  return header.claimed || ::access(claim_path(spool, header.token).c_str(), F_OK) == 0;
}

void forget_claims(const std::string& spool, const std::set<std::string>& tokens) {
  const std::string prefix = kClaimedPrefix;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(spool, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && !tokens.contains(name.substr(prefix.size())))
      ::unlink(entry.path().c_str());
  }
}

Result<Fencing> claim_late(Store& store, const Epoch& epoch) {
  // A replica that was removed meanwhile would get a log that nothing leads to.
  WALFS_TRY(read_volume(store));
  WALFS_ASSIGN(const std::optional<Epoch> newest, read_newest_epoch(store));
  const bool is_next = !newest || newest->number < epoch.number;
  if (is_next && !epoch.fresh) {
    WALFS_ASSIGN(const bool is_older, log_goes_on(store, epoch.parent));
    if (is_older)
      return Error{Errc::kDamaged,
                   "the catalog is older than what is in " + store.describe() +
                       "; unmount and mount again, and everything is uploaded anew"};
  }
  return claim_epoch(store, epoch);
}

}  // namespace walfs
