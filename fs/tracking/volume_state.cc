#include "fs/tracking/volume_state.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "replicator/claims.h"

namespace walfs {
namespace {

std::string holder_name(const std::string& directory) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return std::string(host.data()) + ":" + directory;
}

}  // namespace

Result<VolumeState> open_volume_state(const ServerContext& context) {
  const MountOptions& options = context.options;
  VolumeState state;
  // The state directory lies beneath the mount, perhaps; the descriptor leads around it.
  state.path = "/proc/self/fd/" + std::to_string(context.state_fd);
  if (::mkdir(state.spool().c_str(), 0700) != 0 && errno != EEXIST) {
    return error_from_errno("cannot create the spool in " + options.source + "/.walfs", errno);
  }
  StoreOptions store_options;
  store_options.credentials_file = options.credentials_file;
  store_options.max_request_rate = static_cast<unsigned>(options.max_request_rate);
  store_options.request_timeout_ms = static_cast<unsigned>(options.request_timeout_ms);
  store_options.retry_budget_ms =
      std::min(store_options.retry_budget_ms, store_options.request_timeout_ms);
  WALFS_ASSIGN(state.store, open_store(options.replica_url, store_options, /*create=*/true));
  WALFS_ASSIGN(state.catalog, Catalog::open(state.path + "/catalog.db"));
  const std::string holder = holder_name(options.source);
  if (context.resumed) {
    state.trust = Trust::kUntouched;
    WALFS_ASSIGN(state.writer,
                 resume_writing(*state.catalog, state.spool(), options.replica_url, holder));
    return state;
  }
  const auto extra = nlohmann::json::parse(options.extra, nullptr, false);
  const bool take_over = extra.is_object() && extra.value("take_over", false);
  if (state.catalog->header().clean) state.trust = Trust::kSignatures;
  WALFS_ASSIGN(state.writer, begin_writing(*state.store, *state.catalog, state.spool(),
                                           options.replica_url, holder, take_over));
  return state;
}

std::unique_ptr<Uploader> VolumeState::start_uploads() const {
  auto uploader = std::make_unique<Uploader>(
      *store, spool(), writer.epoch, writer.fencing, writer.uploaded,
      [known = catalog.get(), where = spool()] { return note_claimed(*known, where); });
  uploader->prove_log_from(writer.proven);
  for (const PositionRange& segment : writer.spooled) uploader->add(segment);
  return uploader;
}

}  // namespace walfs
