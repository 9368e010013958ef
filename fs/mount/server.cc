#include "fs/mount/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "fs/mount/channels.h"
#include "fs/mount/control.h"
#include "fs/mount/crash_points.h"
#include "fs/mount/keeper.h"
#include "fs/mount/kept_descriptors.h"
#include "fs/mount/mountinfo.h"
#include "fs/mount/operations.h"
#include "fs/mount/process.h"
#include "fs/mount/pruner.h"
#include "fs/mount/session.h"
#include "fs/mount/spare_memory.h"
#include "fs/mount/users.h"

namespace walfs {
namespace {

constexpr int64_t kIdleTimeoutMs = 5000;

class Server {
 public:
  Server(MountOptions options, const HooksFactory& make_hooks)
      : options_(std::move(options)), make_hooks_(make_hooks) {}

  Status start();
  // Serves until the mount is gone or the keeper says so.
  int run();

 private:
  void adopt_nodes();
  void set_pids(const nlohmann::json& message);
  bool wait_for_end(int ended_fd);
  nlohmann::json status();
  nlohmann::json reduced_guarantees() const;
  nlohmann::json upgrade(const nlohmann::json& request);
  nlohmann::json unmount(const nlohmann::json& request);

  // The keeper replaces a server that was serving, or took the place of one that was.
  bool can_hand_over() const { return was_served_ && keeper_pid_ != 0 && can_replace_server(); }
  void hand_over();

  const MountOptions options_;
  const HooksFactory make_hooks_;
  std::unique_ptr<ServerHooks> hooks_;
  FileDescriptor state_directory_;
  SharedState* shared_ = nullptr;
  std::unique_ptr<NodeRecords> records_;
  std::unique_ptr<RequestJournal> journal_;
  std::unique_ptr<Operations> operations_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Pruner> pruner_;
  ControlServer control_;
  std::atomic<bool> was_served_{false};
  std::atomic<int> keeper_pid_{0};
  std::atomic<int> flusher_pid_{0};
  SpareMemory spare_memory_;
};

void Server::set_pids(const nlohmann::json& message) {
  if (message.contains("keeper_pid")) keeper_pid_ = message.value("keeper_pid", 0);
  if (!message.contains("flusher_pid")) return;
  flusher_pid_ = message.value("flusher_pid", 0);
  if (operations_) operations_->set_flusher_pid(flusher_pid_);
}

void prepare_process() {
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  umask(0);
  // Our own allocations must not wait for dirty pages that only we can write back.
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

Status Server::start() {
  auto pids = receive_message(kServerKeeper, 10000);
  if (!pids) return Error{Errc::kIo, "the keeper is gone"};
  set_pids(*pids);
  state_directory_.reset(
      openat(kServerBacking, kStateDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!state_directory_.valid()) return error_from_errno("cannot open .walfs", errno);
  WALFS_ASSIGN(shared_, map_shared_state(kServerState));
  const bool resumed = shared_->init.answered != 0;
  was_served_ = resumed;
  read_crash_points_from_environment(static_cast<uint32_t>(++shared_->servers));
  adopt_nodes();
  hooks_ = make_hooks_(*shared_);
  WALFS_TRY(hooks_->start({options_, kServerBacking, state_directory_.get(), *shared_, resumed,
                           kServerFlusher, flusher_pid_, control_,
                           [this] { return can_hand_over(); }, [this] { hand_over(); }}));
  journal_ = std::make_unique<RequestJournal>(*shared_, *records_, hooks_->reply_gate());
  operations_ = std::make_unique<Operations>(kServerBacking, hooks_->observer(), *records_);
  operations_->set_flusher_pid(flusher_pid_);
  operations_->set_write_through(options_.durability == "sync");
  WALFS_ASSIGN(session_, Session::create(kServerDevice, *operations_, *journal_,
                                         {options_.threads, options_.spin_us, options_.realtime}));
  WALFS_TRY(session_->handshake());
  pruner_ = std::make_unique<Pruner>(kServerDevice, operations_->nodes(), *records_, shared_->init);
  if (resumed) {
    spdlog::warn("server {} goes on with {} open inodes where the one before it ended",
                 shared_->servers.load(), operations_->nodes().size());
  }
  control_.handle("status", [this](const nlohmann::json&) { return status(); });
  control_.handle("sync", [this](const nlohmann::json& request) {
    auto result = hooks_->sync(request.value("timeout_ms", int64_t{30000}));
    return result ? *result : error_to_json(result.error());
  });
  control_.handle("upgrade", [this](const nlohmann::json& request) { return upgrade(request); });
  control_.handle("unmount", [this](const nlohmann::json& request) { return unmount(request); });
  control_.start(kServerControl);
  return {};
}

// What of our promises does not hold on this machine or now, in sentences.
nlohmann::json Server::reduced_guarantees() const {
  auto reduced = nlohmann::json::array();
  if (!can_replace_server())
    reduced.push_back(
        "libfuse is older than 3.14: the death of the server ends the mount, and replication "
        "cannot "
        "pause: the spool grows without a limit while the store is away");
  if (keeper_pid_ == 0)
    reduced.push_back(
        "the keeper is gone: the death of the server would end the mount, and replication cannot "
        "pause; unmount and mount again when you can");
  if (!kernel_can_resend(shared_->init))
    reduced.push_back(
        "the kernel is older than Linux 6.9: requests of a server that died are found in its "
        "journal, and not asked for again besides");
  return reduced;
}

// As if it had died, but that the requests which are being executed are not to blame.
void Server::hand_over() {
  for (RequestSlot& slot : shared_->slots) slot.attempts = 0;
  spdlog::default_logger()->flush();
  _exit(kServerHandsOver);
}

// What the keeper holds for nodes that the kernel has forgotten is not for us.
void Server::adopt_nodes() {
  records_ = std::make_unique<NodeRecords>(*shared_, kServerNodes);
  records_->set_descriptor_limit(raise_descriptor_limit());
  const auto wanted = [](void* shared, uint32_t number) {
    return number < kNodesMax && static_cast<SharedState*>(shared)->nodes[number].id != 0;
  };
  close_unwanted_descriptors(wanted, shared_);
}

nlohmann::json Server::status() {
  nlohmann::json answer = hooks_->status();
  answer["mountpoint"] = options_.mountpoint;
  answer["source"] = options_.source;
  answer["keeper_pid"] = keeper_pid_.load();
  answer["server_pid"] = getpid();
  answer["flusher_pid"] = flusher_pid_.load();
  answer["version"] = WALFS_VERSION;
  answer["nodes"] = operations_->nodes().size();
  answer["nodes_max"] = records_->limit();
  answer["servers"] = shared_->servers.load();
  answer["replayed_requests"] = shared_->replayed.load();
  answer["reduced"] = reduced_guarantees();
  auto requests = nlohmann::json::object();
  session_->count_requests(
      [&](uint32_t opcode, uint64_t count) { requests[std::to_string(opcode)] = count; });
  answer["requests"] = std::move(requests);
  return answer;
}

nlohmann::json Server::upgrade(const nlohmann::json& request) {
  const std::string again = "; unmount it and mount it again";
  if (keeper_pid_ == 0)
    return error_to_json(
        {Errc::kUnsupported, "the keeper is gone, and nobody else can do it" + again});
  if (!can_replace_server() || request.value("format", uint64_t{0}) != kSharedStateFormat)
    return error_to_json({Errc::kUnsupported, "walfs " WALFS_VERSION " at " + options_.mountpoint +
                                                  " cannot hand over to this version" + again});
  send_message(kServerKeeper, {{"do", "upgrade"}, {"binary", request.value("binary", "")}});
  return {{"accepted", true}};
}

nlohmann::json Server::unmount(const nlohmann::json& request) {
  const auto timeout_ms = request.value("timeout_ms", int64_t{30000});
  auto shipped = hooks_->sync(timeout_ms);
  if (!shipped && !request.value("force", false)) return error_to_json(shipped.error());
  auto mounted = mount_at(options_.mountpoint);
  int error = unmount_by_helper(options_.mountpoint, 0, timeout_ms);
  if (error == 0) {
    nlohmann::json done = {{"unmounted", true}};
    if (!shipped) done["left"] = shipped.error().message;
    return done;
  }
  nlohmann::json answer =
      error_to_json(error_from_errno("cannot unmount " + options_.mountpoint, error));
  if (error != EBUSY || !mounted) return answer;
  auto users = find_mount_users(mounted->device_major, mounted->device_minor,
                                {getpid(), keeper_pid_, flusher_pid_});
  answer["error"] = options_.mountpoint + " is in use by " + describe(users);
  answer["busy"] = to_json(users);
  return answer;
}

// Until the session has ended by itself (the mount is gone): true. Or until the keeper says finish.
bool Server::wait_for_end(int ended_fd) {
  bool keeper_gone = false;
  while (true) {
    pollfd waiting[2] = {{ended_fd, POLLIN, 0}, {keeper_gone ? -1 : kServerKeeper, POLLIN, 0}};
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) return false;
    if (waiting[0].revents != 0) return true;
    if (waiting[1].revents == 0) continue;
    auto message = receive_message(kServerKeeper, 0);
    if (!message) {
      keeper_gone = true;
      keeper_pid_ = 0;
      spdlog::error("the keeper is gone; serving until {} is unmounted", options_.mountpoint);
      continue;
    }
    if (message->value("do", "") == "finish") {
      // What the flusher has had written back is still on its way.
      session_->wait_until_idle(kIdleTimeoutMs);
      return false;
    }
    set_pids(*message);
  }
}

int Server::run() {
  was_served_ = true;
  FileDescriptor ended(eventfd(0, EFD_CLOEXEC));
  Status served;
  // Not joined when the keeper cuts it short: its threads sleep in read(2) of the device.
  std::thread session([&] {
    served = session_->run();
    uint64_t one = 1;
    if (::write(ended.get(), &one, sizeof one) < 0) std::abort();
  });
  const bool all_served = wait_for_end(ended.get());
  control_.stop();
  Status finished = hooks_->finish(options_.unmount_timeout_ms, all_served);
  if (!finished) spdlog::error("{}", finished.error().message);
  if (keeper_pid_ == 0) ::unlink(control_socket_path(options_.mountpoint).c_str());
  spdlog::default_logger()->flush();
  // Session threads may still sleep in the device's read(2); nothing after this point needs
  // destructors.
  _exit(finished ? 0 : exit_code(finished.error()));
}

}  // namespace

int run_server(const HooksFactory& make_hooks) {
  prepare_process();
  auto text = read_text_fd(kServerOptions, kOptionsSizeMax);
  if (!text) return 1;
  auto options = mount_options_from_text(*text);
  if (!options) return 1;
  for (int fd = kServerOptions; fd < kServerEnd; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  set_up_logging(*options, "server");
  Server server(std::move(*options), make_hooks);
  Status started = server.start();
  if (!started) {
    send_message(kServerKeeper, {{"event", "failed"},
                                 {"code", static_cast<int>(started.error().code)},
                                 {"message", started.error().message}});
    return exit_code(started.error());
  }
  send_message(kServerKeeper, {{"event", "ready"}});
  return server.run();
}

}  // namespace walfs
